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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use oci_spec::runtime::Spec;

    use super::*;

    fn mount_of(kind: &str, source: &Path, options: &[&str]) -> FsMount {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        FsMount { kind: kind.to_owned(), source: source.display().to_string(), options }
    }

    #[test]
    fn one_mount_of_an_image_is_a_disk_and_directories_are_shared() {
        let directory = tempfile::tempdir().unwrap();
        let image = tempfile::NamedTempFile::new().unwrap();
        let bundle = Bundle { path: directory.path().to_owned(), spec: Spec::default() };
        let disk = mount_of("ext4", image.path(), &["loop"]);
        let bind = mount_of("bind", directory.path(), &["rbind", "rw"]);
        assert!(matches!(Root::of(&bundle, std::slice::from_ref(&disk)), Ok(Root::Disk(_))));
        assert!(matches!(Root::of(&bundle, std::slice::from_ref(&bind)), Ok(Root::Tree(_))));
        assert!(matches!(Root::of(&bundle, &[disk, bind]), Err(PodError::Tree { .. })));
        assert!(matches!(Root::of(&bundle, &[]), Err(PodError::Root { .. })));
    }
}
