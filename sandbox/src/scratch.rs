//! A container's writable disk: an empty ext4 file system in a sparse file that has no name.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use crate::config::Scratch;
use crate::ext4;

#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    #[error("cannot make a writable disk in {}", .directory.display())]
    Make { directory: PathBuf, source: io::Error },
    #[error("a writable disk of {0} bytes is too large: it may have {most} GiB", most = ext4::MAX_SIZE >> 30)]
    TooLarge(u64),
}

/// The disk, open for reading and writing. Its blocks are freed with its last descriptor. Its size is
/// rounded up to what the file system can use.
pub(crate) fn make(scratch: &Scratch) -> Result<File, ScratchError> {
    if scratch.size > ext4::MAX_SIZE {
        return Err(ScratchError::TooLarge(scratch.size));
    }
    fs::create_dir_all(&scratch.directory)
        .and_then(|()| tempfile::tempfile_in(&scratch.directory))
        .and_then(|file| {
            ext4::format(&file, scratch.size)?;
            Ok(file)
        })
        .map_err(|source| ScratchError::Make { directory: scratch.directory.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_nameless_and_no_smaller_than_asked() {
        let directory = tempfile::tempdir().unwrap();
        let scratch = Scratch { directory: directory.path().join("new"), size: (1 << 30) + 1 };
        let disk = make(&scratch).unwrap().metadata().unwrap();
        assert_eq!(disk.len(), (1 << 30) + ext4::GROUP_SIZE);
        assert_eq!(fs::read_dir(&scratch.directory).unwrap().count(), 0);
    }

    #[test]
    fn a_disk_beyond_reason_is_refused() {
        let scratch = Scratch { directory: "/nowhere".into(), size: u64::MAX };
        assert!(matches!(make(&scratch), Err(ScratchError::TooLarge(_))));
    }
}
