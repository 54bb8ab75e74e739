//! A container's writable disk: an ext4 file system in a sparse file. One that is thrown away with its sandbox has
//! no name; one that is kept has, and a lock that its sandbox holds.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::config::Scratch;
use crate::ext4::{self, Journal};

#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    #[error("cannot make a writable disk in {}", .directory.display())]
    Make { directory: PathBuf, source: io::Error },
    #[error("a writable disk of {0} bytes is too large: it may have {most} GiB", most = ext4::MAX_SIZE >> 30)]
    TooLarge(u64),
    #[error("cannot open the writable disk {}", .path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("the writable disk {} belongs to a sandbox that still runs", .0.display())]
    InUse(PathBuf),
}

/// Makes a disk for [`Scratch::Kept`]: an empty file system that survives a VM's sudden end. Nothing may have
/// that name yet. The file is sparse; its size, in bytes, is rounded up to what the file system can use. A crash
/// leaves the whole disk, or none.
pub fn make_disk(path: &Path, size: u64) -> Result<(), ScratchError> {
    check_size(size)?;
    let directory = path.parent().unwrap_or(Path::new("."));
    let make = || {
        let file = tempfile::NamedTempFile::new_in(directory)?;
        ext4::format(file.as_file(), size, Journal::Kept)?;
        file.as_file().sync_all()?;
        file.persist_noclobber(path)?;
        File::open(directory)?.sync_all()
    };
    make().map_err(|source| ScratchError::Make { directory: directory.to_owned(), source })
}

/// The disk, open for reading and writing.
pub(crate) fn open(scratch: &Scratch) -> Result<File, ScratchError> {
    match scratch {
        Scratch::Temporary { directory, size } => make_nameless(directory, *size),
        Scratch::Kept { path } => open_kept(path),
    }
}

/// Its blocks are freed with its last descriptor.
fn make_nameless(directory: &Path, size: u64) -> Result<File, ScratchError> {
    check_size(size)?;
    fs::create_dir_all(directory)
        .and_then(|()| tempfile::tempfile_in(directory))
        .and_then(|file| {
            ext4::format(&file, size, Journal::None)?;
            Ok(file)
        })
        .map_err(|source| ScratchError::Make { directory: directory.to_owned(), source })
}

fn check_size(size: u64) -> Result<(), ScratchError> {
    if size > ext4::MAX_SIZE { Err(ScratchError::TooLarge(size)) } else { Ok(()) }
}

/// The lock goes with the open file: to the VMM, and is let go when both have closed it.
fn open_kept(path: &Path) -> Result<File, ScratchError> {
    let error = |source| ScratchError::Open { path: path.to_owned(), source };
    let file = File::options().read(true).write(true).open(path).map_err(error)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(ScratchError::InUse(path.to_owned())),
        Err(errno) => Err(error(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_disk_is_nameless_and_no_smaller_than_asked() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("new");
        let scratch = Scratch::Temporary { directory: directory.clone(), size: (1 << 30) + 1 };
        let disk = open(&scratch).unwrap().metadata().unwrap();
        assert_eq!(disk.len(), (1 << 30) + ext4::GROUP_SIZE);
        assert_eq!(fs::read_dir(directory).unwrap().count(), 0);
    }

    #[test]
    fn a_kept_disk_is_made_once_and_opened_by_one_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        let scratch = Scratch::Kept { path: path.clone() };
        assert!(matches!(open(&scratch), Err(ScratchError::Open { .. })));
        make_disk(&path, 1 << 30).unwrap();
        assert!(matches!(make_disk(&path, 1 << 30), Err(ScratchError::Make { .. })));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        let first = open(&scratch).unwrap();
        assert_eq!(first.metadata().unwrap().len(), 1 << 30);
        assert!(matches!(open(&scratch), Err(ScratchError::InUse(_))));
        drop(first);
        open(&scratch).unwrap();
    }

    #[test]
    fn a_disk_beyond_reason_is_refused() {
        let scratch = Scratch::Temporary { directory: "/nowhere".into(), size: u64::MAX };
        assert!(matches!(open(&scratch), Err(ScratchError::TooLarge(_))));
        assert!(matches!(make_disk(Path::new("/nowhere/disk"), u64::MAX), Err(ScratchError::TooLarge(_))));
    }
}
