//! registries.toml: what this machine and this user say of registries.
//!
//! ```toml
//! timeout = 30                            # seconds without a byte after which a connection counts as lost
//!
//! [registry."docker.io"]
//! mirrors = ["mirror.example", "harbor.example/hub"]  # HOST[:PORT][/PATH], asked in this order, then docker.io itself
//!
//! [registry."registry.lan:5000"]
//! plain-http = true                       # no TLS; credentials travel in the open
//!
//! [registry."registry.example"]
//! ca = "/etc/ssl/example-ca.pem"          # trusted for this host besides the system's authorities
//! client-cert = "/etc/ssl/me.pem"         # shown to this host, with the key below
//! client-key = "/etc/ssl/me.key"
//! ```
//!
//! The file BULKHEAD_CONFIG names is the only one read. Without it, a table in the user's file
//! (`~/.config/bulkhead/registries.toml`) stands in for the one of the same name in `/etc/bulkhead/registries.toml`.
//! Certificates are also found where Docker and Podman have them: `/etc/docker/certs.d/HOST[:PORT]/` and
//! `/etc/containers/certs.d/HOST[:PORT]/` with `*.crt`, `*.cert` and `*.key`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use super::proxy::Proxies;
use crate::name;

const SYSTEM_FILE: &str = "/etc/bulkhead/registries.toml";
const CERTIFICATES: [&str; 2] = ["/etc/docker/certs.d", "/etc/containers/certs.d"];
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of such a file.
const MAX_FILE: u64 = 1 << 20;

/// How registries are reached.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// Time without a byte after which a connection counts as lost.
    pub timeout: Duration,
    /// By registry, as names have it: `docker.io`, `HOST:PORT`.
    pub registries: BTreeMap<String, RegistrySettings>,
    /// Directories with one of certificates for each host.
    pub certificates: Vec<PathBuf>,
    /// What stands between us and the registries.
    pub proxies: Proxies,
}

/// How one registry is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RegistrySettings {
    /// Who is asked first, in this order.
    pub mirrors: Vec<Mirror>,
    /// No TLS.
    pub plain_http: bool,
    /// Certificates (PEM) trusted for this host besides the system's.
    pub ca: Option<PathBuf>,
    /// Our certificate (PEM) for this host.
    pub client_cert: Option<PathBuf>,
    /// Its key (PEM).
    pub client_key: Option<PathBuf>,
}

/// A registry that has another one's images, perhaps below a path of its own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Mirror {
    /// `HOST[:PORT]`.
    pub(super) host: String,
    /// Goes before the repository, if not empty.
    pub(super) path: String,
}

/// Why the configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigurationError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{} is malformed: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// The proxy in the environment is none.
    #[error("{variable} names no usable proxy (http://HOST:PORT or https://HOST:PORT)")]
    Proxy {
        /// Which variable.
        variable: &'static str,
    },
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Document {
    timeout: Option<u64>,
    registry: BTreeMap<String, RegistrySettings>,
}

impl Default for Configuration {
    fn default() -> Self {
        Configuration {
            timeout: DEFAULT_TIMEOUT,
            registries: BTreeMap::new(),
            certificates: CERTIFICATES.map(PathBuf::from).to_vec(),
            proxies: Proxies::default(),
        }
    }
}

impl Configuration {
    /// What the files and the environment say.
    pub fn from_environment() -> Result<Configuration, ConfigurationError> {
        let mut configuration =
            Configuration { proxies: Proxies::from_environment(), ..Configuration::default() };
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(path) = variable("BULKHEAD_CONFIG") {
            configuration.add(&path, &required(&path)?)?;
            return Ok(configuration);
        }
        let user = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")));
        let user = user.map(|directory| directory.join("bulkhead/registries.toml"));
        for path in [Some(PathBuf::from(SYSTEM_FILE)), user].into_iter().flatten() {
            if let Some(text) = optional(&path)? {
                configuration.add(&path, &text)?;
            }
        }
        Ok(configuration)
    }

    /// Adds a file's text; what it says takes precedence. `path` is for messages.
    pub fn add(&mut self, path: &Path, text: &str) -> Result<(), ConfigurationError> {
        let malformed = |reason: String| ConfigurationError::Malformed { path: path.to_owned(), reason };
        let document: Document =
            toml::from_str(text).map_err(|error| malformed(error.to_string().trim_end().to_owned()))?;
        if let Some(wrong) = document.registry.keys().find(|key| !name::is_host(key)) {
            return Err(malformed(format!("[registry.\"{wrong}\"] is no registry: HOST or HOST:PORT")));
        }
        let lone =
            |settings: &RegistrySettings| settings.client_cert.is_some() != settings.client_key.is_some();
        if let Some((key, _)) = document.registry.iter().find(|(_, settings)| lone(settings)) {
            return Err(malformed(format!(
                "[registry.\"{key}\"] has one of client-cert and client-key only"
            )));
        }
        match document.timeout {
            Some(0) => return Err(malformed("a timeout of 0 leaves no time for anything".to_owned())),
            Some(seconds) => self.timeout = Duration::from_secs(seconds),
            None => (),
        }
        self.registries.extend(document.registry);
        Ok(())
    }

    /// What is said of a registry, by its name or the host that serves it.
    pub(super) fn registry(&self, host: &str) -> Option<&RegistrySettings> {
        self.registries.get(super::endpoint::registry_at(host))
    }
}

impl TryFrom<String> for Mirror {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let address = text.strip_prefix("https://").unwrap_or(&text).trim_end_matches('/');
        if address.contains("://") {
            return Err(format!(
                "\"{text}\" is no mirror: leave out the scheme, and set plain-http in a table of its own"
            ));
        }
        let (host, path) = address.split_once('/').unwrap_or((address, ""));
        let path_is_valid = path.is_empty() || path.split('/').all(name::is_component);
        if !name::is_host(host) || !path_is_valid {
            return Err(format!("\"{text}\" is no mirror: HOST[:PORT][/PATH]"));
        }
        Ok(Mirror { host: host.to_owned(), path: path.to_owned() })
    }
}

fn required(path: &Path) -> Result<String, ConfigurationError> {
    optional(path)?.ok_or_else(|| ConfigurationError::Read {
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::NotFound, "there is no such file"),
    })
}

fn optional(path: &Path) -> Result<Option<String>, ConfigurationError> {
    let error = |source| ConfigurationError::Read { path: path.to_owned(), source };
    match bounded(path) {
        Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|cause| error(io::Error::other(cause))),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(error(source)),
    }
}

/// A small file's bytes.
pub(super) fn bounded(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it has more than {MAX_FILE} bytes"),
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Configuration, String> {
        let mut configuration = Configuration::default();
        let added = configuration.add(Path::new("registries.toml"), text);
        added.map(|()| configuration).map_err(|error| error.to_string())
    }

    #[test]
    fn every_key_is_read() {
        let text = r#"
            timeout = 7
            [registry."docker.io"]
            mirrors = ["mirror.example:5000", "https://harbor.example/hub/"]
            [registry."registry.lan:5000"]
            plain-http = true
            ca = "/ca.pem"
            client-cert = "/me.pem"
            client-key = "/me.key"
        "#;
        let configuration = read(text).unwrap();
        assert_eq!(configuration.timeout, Duration::from_secs(7));
        let hub = configuration.registry("registry-1.docker.io").unwrap();
        let mirrors: Vec<_> = hub.mirrors.iter().map(|mirror| (&*mirror.host, &*mirror.path)).collect();
        assert_eq!(mirrors, [("mirror.example:5000", ""), ("harbor.example", "hub")]);
        let lan = configuration.registry("registry.lan:5000").unwrap();
        assert!(lan.plain_http && lan.client_key.is_some());
        assert_eq!(configuration.registry("other"), None);
    }

    #[test]
    fn a_later_file_replaces_a_registrys_table_and_leaves_the_others() {
        let mut configuration =
            read("[registry.a]\nplain-http = true\n[registry.b]\nplain-http = true").unwrap();
        configuration.add(Path::new("user"), "[registry.a]\nca = '/ca.pem'").unwrap();
        assert!(!configuration.registry("a").unwrap().plain_http);
        assert!(configuration.registry("b").unwrap().plain_http);
    }

    #[test]
    fn mistakes_are_told_with_the_file() {
        for (text, told) in [
            ("timeout = 0", "no time"),
            ("[registry.\"a/b\"]", "HOST or HOST:PORT"),
            ("[registry.a]\ninsecure = true", "insecure"),
            ("[registry.a]\nmirrors = ['http://b']", "plain-http"),
            ("[registry.a]\nmirrors = ['b/../c']", "HOST[:PORT][/PATH]"),
            ("[registry.a]\nclient-key = '/k'", "client-cert"),
            ("[[[", "line 1"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with("registries.toml is malformed: "), "{error}");
            assert!(error.contains(told), "{error}");
        }
    }
}
