//! A container's root file system: EROFS layers, lowest first, and an ext4 disk that takes the writes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, mount, move_mount, unmount,
};

use crate::disks::{self, DiskError};
use crate::{error_chain, log};

/// Room for the mount points of a container that has no writable disk, and for nothing else.
const MOUNT_POINTS_LEN: &str = "size=1m,mode=0755";

#[derive(Debug, thiserror::Error)]
pub(super) enum RootfsError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("the container has no layers")]
    NoLayers,
    #[error("cannot make {}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("cannot mount {what}")]
    Mount { what: String, source: io::Error },
}

/// The mounts of one container, undone by [`Rootfs::unmount`] or when dropped.
pub(super) struct Rootfs {
    root: PathBuf,
    /// In the order they were made.
    mounted: Vec<PathBuf>,
}

impl Rootfs {
    /// Mounts the disks with these serials below `dir`. Without a scratch disk, the root file system takes
    /// mount points and nothing more.
    pub(super) fn mount(dir: &Path, layers: &[String], scratch: Option<&str>) -> Result<Self, RootfsError> {
        let mut rootfs = Self { root: dir.join("rootfs"), mounted: Vec::new() };
        let mut lower_dirs = Vec::new();
        for (index, serial) in layers.iter().enumerate() {
            let at = dir.join("layers").join(index.to_string());
            rootfs.mount_disk(serial, &at, "erofs", MountFlags::RDONLY)?;
            lower_dirs.push(at);
        }
        if lower_dirs.is_empty() {
            return Err(RootfsError::NoLayers);
        }
        let writes = dir.join("scratch");
        match scratch {
            Some(serial) => rootfs.mount_disk(serial, &writes, "ext4", MountFlags::empty())?,
            None => rootfs.mount_tmpfs(&writes)?,
        }
        rootfs.mount_overlay(&lower_dirs, &writes)?;
        Ok(rootfs)
    }

    /// Where the root file system is.
    pub(super) fn path(&self) -> &Path {
        &self.root
    }

    /// Lets go of all disks.
    pub(super) fn unmount(mut self) -> Result<(), RootfsError> {
        self.unmount_all()
    }

    fn mount_disk(
        &mut self,
        serial: &str,
        at: &Path,
        file_system: &str,
        flags: MountFlags,
    ) -> Result<(), RootfsError> {
        let device = disks::find(serial)?;
        create_dir(at)?;
        mount(&device, at, file_system, flags, None)
            .map_err(|error| cannot_mount(format!("disk {serial:?} as {file_system}"), error.into()))?;
        self.mounted.push(at.to_owned());
        Ok(())
    }

    fn mount_tmpfs(&mut self, at: &Path) -> Result<(), RootfsError> {
        create_dir(at)?;
        let options = std::ffi::CString::new(MOUNT_POINTS_LEN).unwrap_or_default();
        mount("tmpfs", at, "tmpfs", MountFlags::empty(), Some(options.as_c_str()))
            .map_err(|error| cannot_mount("a tmpfs for mount points".to_owned(), error.into()))?;
        self.mounted.push(at.to_owned());
        Ok(())
    }

    /// The file descriptor interface takes layers one by one (Linux 6.8); the older one cuts its options at a
    /// page, which a hundred layers exceed.
    fn mount_overlay(&mut self, lower_dirs: &[PathBuf], writes: &Path) -> Result<(), RootfsError> {
        let (upper, work) = (writes.join("upper"), writes.join("work"));
        create_dir(&upper)?;
        create_dir(&work)?;
        create_dir(&self.root)?;
        let mount = || -> rustix::io::Result<()> {
            let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
            // From the top down (Linux Documentation/filesystems/overlayfs.rst).
            for lower in lower_dirs.iter().rev() {
                fsconfig_set_string(&overlay, "lowerdir+", lower)?;
            }
            fsconfig_set_string(&overlay, "upperdir", &upper)?;
            fsconfig_set_string(&overlay, "workdir", &work)?;
            fsconfig_create(&overlay)?;
            let mount = fsmount(&overlay, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
            move_mount(&mount, "", CWD, &self.root, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        };
        mount().map_err(|error| cannot_mount("the layers as overlay".to_owned(), error.into()))?;
        self.mounted.push(self.root.clone());
        Ok(())
    }

    fn unmount_all(&mut self) -> Result<(), RootfsError> {
        while let Some(path) = self.mounted.last() {
            unmount(path, UnmountFlags::empty()).map_err(|error| RootfsError::Mount {
                what: format!("{} away", path.display()),
                source: error.into(),
            })?;
            self.mounted.pop();
        }
        Ok(())
    }
}

impl Drop for Rootfs {
    fn drop(&mut self) {
        if let Err(error) = self.unmount_all() {
            log::warn(error_chain::describe(&error));
        }
    }
}

fn create_dir(path: &Path) -> Result<(), RootfsError> {
    fs::create_dir_all(path).map_err(|source| RootfsError::Directory { path: path.to_owned(), source })
}

fn cannot_mount(what: String, source: io::Error) -> RootfsError {
    RootfsError::Mount { what, source }
}
