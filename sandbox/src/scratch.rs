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
    #[error("a writable disk of {0} bytes is too small: it takes {least} MiB", least = ext4::MIN_SIZE >> 20)]
    TooSmall(u64),
    #[error("a writable disk of {0} bytes is too large: it may have {most} GiB", most = ext4::MAX_SIZE >> 30)]
    TooLarge(u64),
}

/// The disk, open for reading and writing. Its blocks are freed with its last descriptor.
pub(crate) fn make(scratch: &Scratch) -> Result<File, ScratchError> {
    if scratch.size < ext4::MIN_SIZE {
        return Err(ScratchError::TooSmall(scratch.size));
    }
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
