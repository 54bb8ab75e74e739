//! A container's writable disk: an empty ext4 file system in a sparse file that has no name.

use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use crate::config::Scratch;

/// A block group: the file system is made of whole ones.
const GROUP: u64 = 128 << 20;

/// The largest disk, in bytes: its group descriptors and bitmaps are written before the VM starts.
const MAX_SIZE: u64 = 1 << 40;

const BLOCK: u32 = 4096;

#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    #[error("cannot make a writable disk in {}", .directory.display())]
    Make { directory: PathBuf, source: io::Error },
    #[error("cannot make a file system on a writable disk in {}", .directory.display())]
    Format { directory: PathBuf, source: Box<dyn Error + Send + Sync> },
    #[error("a writable disk of {0} bytes is too large: it may have {most} GiB", most = MAX_SIZE >> 30)]
    TooLarge(u64),
}

/// The disk, open for reading and writing. Its blocks are freed with its last descriptor. Its size is
/// rounded up to what the file system can use.
pub(crate) fn make(scratch: &Scratch) -> Result<File, ScratchError> {
    if scratch.size > MAX_SIZE {
        return Err(ScratchError::TooLarge(scratch.size));
    }
    let size = scratch.size.max(1).next_multiple_of(GROUP);
    let file = fs::create_dir_all(&scratch.directory)
        .and_then(|()| tempfile::tempfile_in(&scratch.directory))
        .map_err(|source| ScratchError::Make { directory: scratch.directory.clone(), source })?;
    // The formatter takes a path; the file has this one only.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    arcbox_ext4::Formatter::new(Path::new(&path), BLOCK, size)
        .and_then(arcbox_ext4::Formatter::close)
        .map_err(|error| ScratchError::Format {
            directory: scratch.directory.clone(),
            source: error.into(),
        })?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn the_disk_is_sparse_nameless_and_no_smaller_than_asked() {
        let directory = tempfile::tempdir().unwrap();
        let scratch = Scratch { directory: directory.path().join("new"), size: (1 << 30) + 1 };
        let disk = make(&scratch).unwrap().metadata().unwrap();
        assert_eq!(disk.len(), (1 << 30) + GROUP);
        assert!(disk.blocks() * 512 < 8 << 20);
        assert_eq!(fs::read_dir(&scratch.directory).unwrap().count(), 0);
    }

    #[test]
    fn a_disk_beyond_reason_is_refused() {
        let scratch = Scratch { directory: "/nowhere".into(), size: u64::MAX };
        assert!(matches!(make(&scratch), Err(ScratchError::TooLarge(_))));
    }
}
