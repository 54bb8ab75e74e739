//! A container's root file system: EROFS layers, lowest first, and an ext4 disk that takes the writes; or a directory of the
//! host's; or a disk with a file system of any kind.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use agent_api::agent;
use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, mount, mount_bind_recursive, move_mount, unmount,
};

use crate::disks::{self, DiskError};
use crate::{error_chain, log, shares};

/// Room for the mount points of a container that has no writable disk, and for nothing else.
const MOUNT_POINTS_LEN: &CStr = c"size=1m,mode=0755";

/// What is deleted gives its space back to the host. At once: to have it trimmed now and then instead, somebody
/// would have to wake for it, and read the bitmaps of all of the disk.
const WRITABLE_DISK: &CStr = c"discard";

#[derive(Debug, thiserror::Error)]
pub(super) enum RootfsError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("the container has no layers")]
    NoLayers,
    #[error("{0:?} is no share's name")]
    ShareName(String),
    #[error("a container's root cannot be of the file system {0:?}")]
    FileSystem(String),
    #[error("cannot make {}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("cannot mount {what}")]
    Mount { what: String, source: io::Error },
}

/// The mounts of one container, undone by [`Rootfs::unmount`] or when dropped.
pub(super) struct Rootfs {
    root: PathBuf,
    /// The layers, lowest first, and the directory of the writable disk that takes what is written over them.
    lower_dirs: Vec<PathBuf>,
    upper: PathBuf,
    takes_writes: bool,
    /// In the order they were made.
    mounted: Vec<PathBuf>,
}

impl Rootfs {
    /// A directory in the place of one.
    #[cfg(test)]
    pub(super) fn pretended(path: &Path) -> Self {
        Self {
            root: path.to_owned(),
            lower_dirs: Vec::new(),
            upper: path.to_owned(),
            takes_writes: true,
            mounted: Vec::new(),
        }
    }

    /// Mounts what a container's root is of below `dir`. One that takes no writes takes mount points and nothing more.
    pub(super) fn mount(dir: &Path, wanted: &agent::Rootfs) -> Result<Self, RootfsError> {
        let (root, upper) = (dir.join("rootfs"), dir.join("scratch/upper"));
        let mut rootfs =
            Self { root, lower_dirs: Vec::new(), upper, takes_writes: false, mounted: Vec::new() };
        match (&wanted.share, wanted.disk.as_ref()) {
            (share, _) if !share.is_empty() => rootfs.mount_share(dir, share, wanted.read_only)?,
            (_, Some(disk)) => rootfs.mount_only_disk(dir, disk, wanted.read_only)?,
            _ => rootfs.mount_layers(dir, wanted)?,
        }
        Ok(rootfs)
    }

    fn mount_layers(&mut self, dir: &Path, wanted: &agent::Rootfs) -> Result<(), RootfsError> {
        for (index, serial) in wanted.layers.iter().enumerate() {
            let at = dir.join("layers").join(index.to_string());
            self.mount_image(serial, &at)?;
            self.lower_dirs.push(at);
        }
        if self.lower_dirs.is_empty() {
            return Err(RootfsError::NoLayers);
        }
        let writes = dir.join("scratch");
        if wanted.scratch.is_empty() {
            return self.mount_for_mount_points(&writes);
        }
        self.mount_disk(&wanted.scratch, &writes, "ext4", MountFlags::empty(), Some(WRITABLE_DISK))?;
        self.takes_writes = true;
        self.mount_overlay(&writes)
    }

    /// Takes the host's directory of this name.
    fn mount_share(&mut self, dir: &Path, name: &str, read_only: bool) -> Result<(), RootfsError> {
        if !is_component(name) {
            return Err(RootfsError::ShareName(name.to_owned()));
        }
        let at = self.place_of_only_part(dir, read_only);
        create_dir(&at)?;
        mount_bind_recursive(Path::new(shares::DIRECTORY).join(name), &at)
            .map_err(|error| cannot_mount(format!("share {name}"), error.into()))?;
        self.mounted.push(at);
        self.finish_only_part(dir)
    }

    /// Takes a disk as it is.
    fn mount_only_disk(
        &mut self,
        dir: &Path,
        disk: &agent::DiskRoot,
        read_only: bool,
    ) -> Result<(), RootfsError> {
        let file_system = disk.file_system.as_str();
        let takes_writes = match file_system {
            "ext4" | "xfs" => !read_only,
            "erofs" => false,
            _ => return Err(RootfsError::FileSystem(disk.file_system.clone())),
        };
        let options = CString::new(disk.options.as_str())
            .map_err(|error| cannot_mount(format!("disk {:?}", disk.serial), error.into()))?;
        let access = if takes_writes { MountFlags::empty() } else { MountFlags::RDONLY };
        let flags = MountFlags::from_bits_truncate(disk.flags) | access;
        let at = self.place_of_only_part(dir, !takes_writes);
        self.mount_disk(&disk.serial, &at, file_system, flags, Some(&options))?;
        self.finish_only_part(dir)
    }

    /// Where what is all of the root goes: in its place, or below an overlay that takes the mount points.
    fn place_of_only_part(&mut self, dir: &Path, read_only: bool) -> PathBuf {
        self.takes_writes = !read_only;
        if self.takes_writes {
            // It has one side, which is compared where it comes from.
            self.upper = PathBuf::new();
            return self.root.clone();
        }
        let lower = dir.join("lower");
        self.lower_dirs.push(lower.clone());
        lower
    }

    fn finish_only_part(&mut self, dir: &Path) -> Result<(), RootfsError> {
        if self.takes_writes { Ok(()) } else { self.mount_for_mount_points(&dir.join("scratch")) }
    }

    fn mount_for_mount_points(&mut self, at: &Path) -> Result<(), RootfsError> {
        self.mount_tmpfs(at)?;
        self.mount_overlay(at)
    }

    /// Whether it takes more than mount points.
    pub(super) fn takes_writes(&self) -> bool {
        self.takes_writes
    }

    /// Where the root file system is.
    pub(super) fn path(&self) -> &Path {
        &self.root
    }

    /// Its two sides, to be compared.
    pub(super) fn sides(&self) -> Sides {
        Sides { upper: self.upper.clone(), lower_dirs: self.lower_dirs.clone() }
    }

    /// Lets go of all disks.
    pub(super) fn unmount(mut self) -> Result<(), RootfsError> {
        self.unmount_all()
    }

    fn mount_image(&mut self, serial: &str, at: &Path) -> Result<(), RootfsError> {
        let options = disks::is_memory(&disks::find(serial)?).then_some(c"dax=always");
        self.mount_disk(serial, at, "erofs", MountFlags::RDONLY, options)
    }

    fn mount_disk(
        &mut self,
        serial: &str,
        at: &Path,
        file_system: &str,
        flags: MountFlags,
        options: Option<&CStr>,
    ) -> Result<(), RootfsError> {
        let device = disks::find(serial)?;
        create_dir(at)?;
        mount(&device, at, file_system, flags, options)
            .map_err(|error| cannot_mount(format!("disk {serial:?} as {file_system}"), error.into()))?;
        self.mounted.push(at.to_owned());
        Ok(())
    }

    fn mount_tmpfs(&mut self, at: &Path) -> Result<(), RootfsError> {
        create_dir(at)?;
        mount("tmpfs", at, "tmpfs", MountFlags::empty(), Some(MOUNT_POINTS_LEN))
            .map_err(|error| cannot_mount("a tmpfs for mount points".to_owned(), error.into()))?;
        self.mounted.push(at.to_owned());
        Ok(())
    }

    /// The file descriptor interface takes layers one by one (Linux 6.8); the older one cuts its options at a
    /// page, which a hundred layers exceed.
    fn mount_overlay(&mut self, writes: &Path) -> Result<(), RootfsError> {
        let work = writes.join("work");
        create_dir(&self.upper)?;
        create_dir(&work)?;
        create_dir(&self.root)?;
        let mount = || -> rustix::io::Result<()> {
            let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
            // From the top down (Linux Documentation/filesystems/overlayfs.rst).
            for lower in self.lower_dirs.iter().rev() {
                fsconfig_set_string(&overlay, "lowerdir+", lower)?;
            }
            fsconfig_set_string(&overlay, "upperdir", &self.upper)?;
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

/// The two sides of a root file system: what was written, and the image it was written over.
#[derive(Clone)]
pub(super) struct Sides {
    upper: PathBuf,
    lower_dirs: Vec<PathBuf>,
}

impl Sides {
    pub(super) fn open_upper(&self) -> io::Result<OwnedFd> {
        open_dir(&self.upper)
    }

    /// The image. Layers that are several disks are seen as one through an overlay of their own, which nobody
    /// else sees and which ends with the descriptor.
    pub(super) fn open_lower(&self) -> io::Result<OwnedFd> {
        if let [only] = &*self.lower_dirs {
            return open_dir(only);
        }
        let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for lower in self.lower_dirs.iter().rev() {
            fsconfig_set_string(&overlay, "lowerdir+", lower)?;
        }
        fsconfig_create(&overlay)?;
        Ok(fsmount(&overlay, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)?)
    }
}

fn is_component(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains('/')
}

fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(open(path, flags, Mode::empty())?)
}

fn create_dir(path: &Path) -> Result<(), RootfsError> {
    fs::create_dir_all(path).map_err(|source| RootfsError::Directory { path: path.to_owned(), source })
}

fn cannot_mount(what: String, source: io::Error) -> RootfsError {
    RootfsError::Mount { what, source }
}
