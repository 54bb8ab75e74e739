//! Mounts of a block device or an image file, which a guest can have as a disk: the host does not look into it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::mount::MountFlags;

use super::{FsMount, options};
use crate::container::Rootfs;
use crate::disks::AddedDisk;

/// The file systems of the guest's kernel that lie on disks.
const OF_DISKS: [&str; 3] = ["ext4", "xfs", "erofs"];

/// Has mount(8) make a block device of an image file.
const LOOP: &str = "loop";

/// A file system on a block device or in an image file.
#[derive(Debug, PartialEq, Eq)]
pub struct DiskMount {
    source: PathBuf,
    file_system: String,
    options: String,
    flags: MountFlags,
    read_only: bool,
}

impl FsMount {
    /// The disk that this is all of, if it is one.
    pub fn disk(&self) -> Option<DiskMount> {
        let file_system = self.kind.clone();
        let source = PathBuf::from(&self.source);
        if !OF_DISKS.contains(&file_system.as_str()) || !is_disk(&source) {
            return None;
        }
        let told: Vec<_> = self.options.iter().filter(|option| *option != LOOP).cloned().collect();
        let parsed = options::parse(&told);
        if parsed.is_bind(&self.kind) || names_further_files(&parsed.data) {
            return None;
        }
        let read_only = parsed.is_read_only() || file_system == "erofs";
        let flags = parsed.flags - MountFlags::RDONLY;
        Some(DiskMount { source, file_system, options: parsed.data, flags, read_only })
    }
}

fn is_disk(source: &Path) -> bool {
    let kind = fs::metadata(source).map(|found| found.file_type());
    kind.is_ok_and(|kind| kind.is_file() || kind.is_block_device())
}

/// `device=`, `logdev=`, `journal_path=` and their kind: what they name is not on the disk.
fn names_further_files(options: &str) -> bool {
    options.split(',').any(|option| option.split_once('=').is_some_and(|(_, value)| value.starts_with('/')))
}

impl DiskMount {
    pub fn source(&self) -> &Path {
        &self.source
    }

    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Opens it for a VM. One that is written to is that VM's alone: a file system mounted twice is destroyed.
    pub fn open(&self) -> io::Result<File> {
        if self.read_only {
            return File::open(&self.source);
        }
        // Of a block device, O_EXCL is refused while it is mounted or another has it so; of a file it means nothing.
        let exclusive = OFlags::EXCL.bits().cast_signed();
        let file = File::options().read(true).write(true).custom_flags(exclusive).open(&self.source)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(file)
    }

    /// A container's root, once a sandbox has it as `disk`.
    pub fn rootfs(&self, disk: &AddedDisk) -> Rootfs {
        Rootfs::Disk {
            serial: disk.serial().to_owned(),
            file_system: self.file_system.clone(),
            options: self.options.clone(),
            flags: self.flags.bits(),
            read_only: self.read_only,
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::fcntl_getfl;

    use super::*;

    fn mount_of(kind: &str, source: &Path, options: &[&str]) -> FsMount {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        FsMount { kind: kind.to_owned(), source: source.display().to_string(), options }
    }

    #[test]
    fn an_image_file_is_a_disk_and_what_is_no_options_of_its_file_system_is_told_apart() {
        let image = tempfile::NamedTempFile::new().unwrap();
        let disk = mount_of("ext4", image.path(), &["rw", "loop", "discard", "noatime", "data=ordered"]);
        let expected = DiskMount {
            source: image.path().to_owned(),
            file_system: "ext4".to_owned(),
            options: "discard,data=ordered".to_owned(),
            flags: MountFlags::NOATIME,
            read_only: false,
        };
        assert_eq!(disk.disk(), Some(expected));
    }

    #[test]
    fn a_disk_is_opened_for_what_its_mount_may_do() {
        let image = tempfile::NamedTempFile::new().unwrap();
        let mode = |kind: &str, options: &[&str]| {
            let file = mount_of(kind, image.path(), options).disk().unwrap().open().unwrap();
            fcntl_getfl(&file).unwrap() & OFlags::RWMODE
        };
        assert_eq!(mode("ext4", &["rw", "loop"]), OFlags::RDWR);
        assert_eq!(mode("xfs", &["nouuid", "ro"]), OFlags::RDONLY);
        assert_eq!(mode("erofs", &["loop"]), OFlags::RDONLY);
    }

    #[test]
    fn only_one_has_a_disk_that_is_written_to() {
        let image = tempfile::NamedTempFile::new().unwrap();
        let disk = mount_of("ext4", image.path(), &["loop"]).disk().unwrap();
        let _first = disk.open().unwrap();
        assert!(disk.open().is_err());
    }

    #[test]
    fn what_is_more_or_other_than_a_disk_is_none() {
        let image = tempfile::NamedTempFile::new().unwrap();
        let directory = tempfile::tempdir().unwrap();
        for mount in [
            mount_of("ext4", directory.path(), &[]),
            mount_of("ext4", Path::new("/nowhere"), &[]),
            mount_of("ext4", Path::new("/dev/null"), &[]),
            mount_of("ext4", image.path(), &["bind"]),
            mount_of("btrfs", image.path(), &["loop"]),
            mount_of("overlay", image.path(), &[]),
            mount_of("erofs", image.path(), &["loop", "device=/var/lib/layer.erofs"]),
            mount_of("erofs", image.path(), &["X-containerd.dmverity=/var/lib/layer.erofs.dmverity"]),
            mount_of("xfs", image.path(), &["logdev=/dev/sdb"]),
        ] {
            assert_eq!(mount.disk(), None, "{mount:?}");
        }
    }
}
