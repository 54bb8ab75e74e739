//! `--tmpfs`: a directory in memory, `PATH[:options]`.

use std::path::PathBuf;
use std::str::FromStr;

/// What holds unless an option says the opposite, as with Docker.
const DEFAULTS: [&str; 3] = ["noexec", "nosuid", "nodev"];

/// Options of mount(8) and tmpfs(5) without a value.
const FLAGS: [&str; 17] = [
    "rw",
    "ro",
    "exec",
    "noexec",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "sync",
    "async",
    "dirsync",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "strictatime",
];

/// Options of tmpfs(5) with a value.
const VALUED: [&str; 7] = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tmpfs {
    pub path: PathBuf,
    pub options: Vec<String>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum TmpfsError {
    #[error("the path must be absolute")]
    RelativePath,
    #[error("the root itself cannot be one")]
    Root,
    #[error("tmpfs has no option {0:?}")]
    UnknownOption(String),
}

impl FromStr for Tmpfs {
    type Err = TmpfsError;

    fn from_str(text: &str) -> Result<Self, TmpfsError> {
        let (path, given) = text.split_once(':').unwrap_or((text, ""));
        if !path.starts_with('/') {
            return Err(TmpfsError::RelativePath);
        }
        // Compares and rebuilds by components: "/tmp/" and "//tmp" are "/tmp".
        let path: PathBuf = PathBuf::from(path).components().collect();
        if path.parent().is_none() {
            return Err(TmpfsError::Root);
        }
        let given: Vec<&str> = given.split(',').filter(|option| !option.is_empty()).collect();
        if let Some(unknown) = given.iter().find(|option| !is_known(option)) {
            return Err(TmpfsError::UnknownOption((*unknown).to_owned()));
        }
        let defaults = DEFAULTS.iter().filter(|default| !given.contains(&opposite(default)));
        let options = defaults.chain(&given).map(|option| (*option).to_owned()).collect();
        Ok(Self { path, options })
    }
}

fn is_known(option: &str) -> bool {
    match option.split_once('=') {
        Some((name, value)) => VALUED.contains(&name) && !value.is_empty(),
        None => FLAGS.contains(&option),
    }
}

fn opposite(default: &str) -> &str {
    default.strip_prefix("no").unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_option_takes_the_place_of_the_default_it_contradicts() {
        let tmpfs: Tmpfs = "/run/".parse().unwrap();
        assert_eq!(
            (tmpfs.path.to_str(), tmpfs.options.join(",")),
            (Some("/run"), "noexec,nosuid,nodev".to_owned())
        );
        let tmpfs: Tmpfs = "/run:exec,size=64m,mode=1777".parse().unwrap();
        assert_eq!(tmpfs.options.join(","), "nosuid,nodev,exec,size=64m,mode=1777");
    }

    #[test]
    fn what_is_no_tmpfs_is_refused() {
        assert_eq!("run".parse::<Tmpfs>(), Err(TmpfsError::RelativePath));
        assert_eq!("//".parse::<Tmpfs>(), Err(TmpfsError::Root));
        assert_eq!("/run:bind".parse::<Tmpfs>(), Err(TmpfsError::UnknownOption("bind".to_owned())));
        assert_eq!("/run:size=".parse::<Tmpfs>(), Err(TmpfsError::UnknownOption("size=".to_owned())));
    }
}
