//! A container's root file system, from where the front end has it.

use sandbox::{Access, Cache, DiskMount, FsMount, SharedTree};

use super::PodError;
use crate::bundle::Bundle;

/// What a container's root is of.
pub(super) enum Root {
    /// Files of the host.
    Tree(SharedTree),
    /// A disk, into which only the guest looks.
    Disk(DiskMount),
}

impl Root {
    pub(super) fn of(bundle: &Bundle, rootfs: &[FsMount]) -> Result<Self, PodError> {
        if let [only] = rootfs
            && let Some(disk) = only.disk()
        {
            return Ok(Self::Disk(disk));
        }
        tree(bundle, rootfs).map(Self::Tree)
    }
}

fn tree(bundle: &Bundle, rootfs: &[FsMount]) -> Result<SharedTree, PodError> {
    if !rootfs.is_empty() {
        return SharedTree::of_mounts(rootfs, Access::Writable, Cache::Shared)
            .map_err(|source| PodError::Tree { what: "the root file system".to_owned(), source });
    }
    let root = bundle.root();
    if !root.is_dir() {
        return Err(PodError::Root { what: format!("({}) does not exist", root.display()) });
    }
    SharedTree::of_path(&root, Access::Writable, true, Cache::Shared)
        .map_err(|source| PodError::Tree { what: root.display().to_string(), source })
}
