//! A container's files as tar archives: out ([`writer`], [`read`]), in ([`extract`]), and what changed of them
//! ([`changes`], [`layer`]).
//!
//! The container may run meanwhile, and change everything under the agent's hands. So a path is looked up within
//! the container's root by the kernel ([`super::in_root`]), and from there on trees are walked by descriptor
//! and name, never following a link ([`tree`]). All of this blocks, and runs on threads made for that.

mod changes;
mod extract;
mod layer;
mod path;
mod read;
mod tree;
mod writer;

use std::io;
use std::path::{Path, PathBuf};

use super::CallError;
use crate::error_chain;

pub(super) use self::changes::list as list_changes;
pub(super) use self::extract::{Options, extract};
pub(super) use self::layer::write as write_layer;
pub(super) use self::read::{stat, write_all, write_path};

#[derive(Debug, thiserror::Error)]
pub(super) enum ArchiveError {
    #[error("no such file or directory: {0:?}")]
    NotFound(PathBuf),
    #[error("not a directory: {0:?}")]
    NotADirectory(PathBuf),
    #[error("cannot enter the root file system")]
    Root(#[from] io::Error),
    #[error("{path:?} in the container")]
    File { path: PathBuf, source: io::Error },
    #[error("the archive is broken")]
    Tar(#[source] io::Error),
    #[error("the archive ends early")]
    Truncated,
    #[error("the archive's {0:?} would lead out of the directory it is for")]
    LeadsOut(PathBuf),
    #[error("cannot overwrite the directory {0:?} with what is none")]
    OverDirectory(PathBuf),
    #[error("cannot overwrite {0:?} with a directory")]
    OverNonDirectory(PathBuf),
}

impl ArchiveError {
    /// An error at `path` of the container.
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { path: path.to_owned(), source }
    }
}

impl From<ArchiveError> for CallError {
    fn from(error: ArchiveError) -> Self {
        let words = error_chain::describe(&error);
        match error {
            ArchiveError::NotFound(_) => Self::NoSuchFile(words),
            ArchiveError::File { .. } | ArchiveError::Root(_) => Self::Internal(words),
            _ => Self::BadArgument(words),
        }
    }
}
