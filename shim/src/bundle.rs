//! A bundle: the directory a front end hands over, with the configuration of a container (OCI runtime-spec, bundle.md).

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

const CONFIG: &str = "config.json";

/// The longest configuration that is read, in bytes: one of a container with thousands of mounts is a tenth of it.
const MAX_CONFIG: u64 = 16 << 20;

#[derive(Debug)]
pub struct Bundle {
    pub path: PathBuf,
    pub spec: Spec,
}

/// In the words of runc, by which its callers know them.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("JSON specification file {} not found", .0.display())]
    Missing(PathBuf),
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is longer than {MAX_CONFIG} bytes", .0.display())]
    TooLong(PathBuf),
    #[error("cannot parse {}", path.display())]
    Malformed { path: PathBuf, source: serde_json::Error },
    #[error("{}: {what}", path.display())]
    Invalid { path: PathBuf, what: &'static str },
}

impl Bundle {
    pub fn load(path: &Path) -> Result<Self, BundleError> {
        let config = path.join(CONFIG);
        let spec: Spec = serde_json::from_slice(&read(&config)?)
            .map_err(|source| BundleError::Malformed { path: config.clone(), source })?;
        if let Some(what) = fault(&spec) {
            return Err(BundleError::Invalid { path: config, what });
        }
        Ok(Self { path: path.to_owned(), spec })
    }

    /// Where the configuration says the root file system is.
    pub fn root(&self) -> PathBuf {
        let root = self.spec.root().as_ref().map_or(Path::new("rootfs"), |root| root.path());
        self.path.join(root)
    }

    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.spec.annotations().as_ref()?.get(key).map(String::as_str)
    }
}

fn read(config: &Path) -> Result<Vec<u8>, BundleError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => BundleError::Missing(config.to_owned()),
        _ => BundleError::Read { path: config.to_owned(), source },
    };
    let mut bytes = Vec::new();
    let file = File::open(config).map_err(failed)?;
    file.take(MAX_CONFIG + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_CONFIG {
        return Err(BundleError::TooLong(config.to_owned()));
    }
    Ok(bytes)
}

/// What no container can be made of.
fn fault(spec: &Spec) -> Option<&'static str> {
    let Some(process) = spec.process() else { return Some("process property must not be empty") };
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return Some("args must not be empty");
    }
    if !process.cwd().is_absolute() {
        return Some("Cwd must be an absolute path");
    }
    if spec.root().is_none() {
        return Some("Root must be specified");
    }
    if spec.linux().is_none() {
        return Some("linux property must not be empty");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(config: &str) -> Result<Bundle, BundleError> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(CONFIG), config).unwrap();
        Bundle::load(directory.path())
    }

    const GOOD: &str = r#"{"ociVersion":"1.2.0","process":{"user":{"uid":0,"gid":0},"args":["sh"],"cwd":"/"},
        "root":{"path":"rootfs"},"linux":{}}"#;

    #[test]
    fn a_bundle_has_its_root_below_it_unless_said_otherwise() {
        let bundle = load(GOOD).unwrap();
        assert_eq!(bundle.root(), bundle.path.join("rootfs"));
        let elsewhere = load(&GOOD.replace("\"rootfs\"", "\"/elsewhere\"")).unwrap();
        assert_eq!(elsewhere.root(), Path::new("/elsewhere"));
    }

    #[test]
    fn what_is_no_bundle_is_told_in_runcs_words() {
        let empty = tempfile::tempdir().unwrap();
        let missing = Bundle::load(empty.path()).unwrap_err().to_string();
        assert!(missing.starts_with("JSON specification file") && missing.ends_with("config.json not found"));
        for (config, word) in [
            ("{", "cannot parse"),
            (&GOOD.replace("[\"sh\"]", "\"sh\""), "cannot parse"),
            (&GOOD.replace("[\"sh\"]", "[]"), "args must not be empty"),
            (&GOOD.replace("\"cwd\":\"/\"", "\"cwd\":\"x\""), "Cwd must be an absolute path"),
            (&GOOD.replace("\"linux\":{}", "\"hostname\":\"h\""), "linux property"),
            ("{\"ociVersion\":\"1.2.0\"}", "process property"),
        ] {
            let told = load(config).unwrap_err().to_string();
            assert!(told.contains(word), "{told}");
        }
    }
}
