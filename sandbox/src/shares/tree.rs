//! What is about to be shared: a detached mount, which appears in no place of the host.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use file_server_api::Cache;

/// A directory or a regular file of the host about to be shared.
#[derive(Debug)]
pub struct SharedTree {
    pub(super) mount: OwnedFd,
    pub(super) access: Access,
    pub(super) cache: Cache,
    is_directory: bool,
}

/// What the guest may do to a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    ReadOnly,
    Writable,
}

/// A mount as mount(8) and containerd describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsMount {
    /// `overlay`, `bind`, ….
    pub kind: String,
    pub source: String,
    /// Flags and the file system's own options, as of fstab(5).
    pub options: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    #[error("cannot open {} to share it", .path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{} is neither a directory nor a regular file, and cannot be shared", .0.display())]
    Kind(PathBuf),
    #[error("cannot make the tree read-only")]
    ReadOnly(#[source] io::Error),
    #[error("no mount says what the tree is")]
    Nothing,
    #[error("cannot have a mount namespace of its own")]
    Namespace(#[source] io::Error),
    #[error("cannot mount {of} ({kind})")]
    Mount { kind: String, of: String, source: io::Error },
}

impl SharedTree {
    /// What is at `path`, and with `recursive` what is mounted below it.
    pub fn of_path(path: &Path, access: Access, recursive: bool, cache: Cache) -> Result<Self, TreeError> {
        let _ = (access, recursive, cache);
        Err(TreeError::Kind(path.to_owned()))
    }

    /// What the mounts make, one over the other.
    pub fn of_mounts(mounts: &[FsMount], access: Access, cache: Cache) -> Result<Self, TreeError> {
        let _ = (mounts, access, cache);
        Err(TreeError::Nothing)
    }

    /// Whether it is one, and no regular file.
    pub fn is_directory(&self) -> bool {
        self.is_directory
    }
}
