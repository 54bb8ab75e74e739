//! Files as memory of the guest, mapped read-only and end to end: their pages are those of the host's page cache, and
//! so the same for all VMs that have these files.

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::ptr;

use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use crate::memory::PAGE;
use crate::virtio::blk::{Access, DiskError, disk_file};

/// The guest's kernel takes such memory in whole sections of this size (Linux, `memremap_compat_align`).
const SECTION: u64 = 2 << 20;

#[derive(Debug, thiserror::Error)]
pub enum FileMemoryError {
    #[error("cannot use a file of it")]
    File(#[from] DiskError),
    #[error("a file of {0} bytes is no whole number of pages")]
    Size(u64),
    #[error("it has no bytes, or more than there can be")]
    Length,
    #[error("its place has {place} bytes, and its files have {files}")]
    TooLong { place: u64, files: u64 },
    #[error("cannot map it")]
    Map(#[source] io::Error),
}

/// The mapping. What is behind the last file reads as zeroes.
pub struct FileMemory {
    start: *mut c_void,
    length: usize,
    /// What of it is files, in bytes.
    filled: u64,
}

struct Files {
    sized: Vec<(File, usize)>,
    /// In all, in bytes.
    length: u64,
}

impl FileMemory {
    /// As long as the files are, up to a whole section.
    pub fn map(files: Vec<OwnedFd>) -> Result<Self, FileMemoryError> {
        let files = Files::of(files)?;
        let length = files.length.checked_next_multiple_of(SECTION).ok_or(FileMemoryError::Length)?;
        Self::lay(files, length)
    }

    /// So many bytes long.
    pub fn in_place(length: u64, files: Vec<OwnedFd>) -> Result<Self, FileMemoryError> {
        let files = Files::of(files)?;
        if files.length > length {
            return Err(FileMemoryError::TooLong { place: length, files: files.length });
        }
        Self::lay(files, length)
    }

    fn lay(files: Files, length: u64) -> Result<Self, FileMemoryError> {
        let length = usize::try_from(length).ok().filter(|length| *length > 0);
        let length = length.ok_or(FileMemoryError::Length)?;
        let failed = |errno: rustix::io::Errno| FileMemoryError::Map(errno.into());
        let reserved = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: the kernel chooses a place where nothing is.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), length, ProtFlags::READ, reserved) };
        let memory = Self { start: start.map_err(failed)?, length, filled: files.length };
        let mut offset = 0;
        for (file, size) in files.sized.iter().filter(|(_, size)| *size > 0) {
            let flags = MapFlags::SHARED | MapFlags::FIXED;
            // SAFETY: the place lies in the mapping just made, which nobody knows of yet.
            unsafe { mmap(memory.start.byte_add(offset), *size, ProtFlags::READ, flags, file, 0) }
                .map_err(failed)?;
            offset += size;
        }
        Ok(memory)
    }

    /// What of it is files, in bytes; 0 for an empty place.
    pub fn filled(&self) -> u64 {
        self.filled
    }

    /// In bytes.
    pub fn length(&self) -> u64 {
        self.length as u64
    }

    /// Where in this process it lies.
    pub fn address(&self) -> u64 {
        self.start.addr() as u64
    }
}

impl Files {
    fn of(files: Vec<OwnedFd>) -> Result<Self, FileMemoryError> {
        let mut known = Self { sized: Vec::with_capacity(files.len()), length: 0 };
        for file in files {
            let (file, size) = disk_file(file, Access::ReadOnly)?;
            if !size.is_multiple_of(PAGE) {
                return Err(FileMemoryError::Size(size));
            }
            known.length = known.length.checked_add(size).ok_or(FileMemoryError::Length)?;
            known.sized.push((file, usize::try_from(size).map_err(|_| FileMemoryError::Length)?));
        }
        Ok(known)
    }
}

impl Drop for FileMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own; the VM that has it as memory ends before.
        let _ = unsafe { munmap(self.start, self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> OwnedFd {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        File::open(file.path()).unwrap().into()
    }

    #[test]
    fn files_lie_end_to_end_and_zeroes_behind_them() {
        let files = vec![file(&[1; 8192]), file(&[]), file(&[2; 4096])];
        let memory = FileMemory::map(files).unwrap();
        assert_eq!(memory.length(), SECTION);
        // SAFETY: the mapping is this long, and its files do not change.
        let bytes = unsafe { std::slice::from_raw_parts(memory.start.cast::<u8>(), memory.length) };
        assert!(bytes[..8192].iter().all(|byte| *byte == 1));
        assert!(bytes[8192..12288].iter().all(|byte| *byte == 2));
        assert!(bytes[12288..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_place_is_as_long_as_it_is_said_to_be_whatever_takes_it() {
        let place = |files| FileMemory::in_place(2 * SECTION, files);
        assert_eq!(place(vec![]).map(|memory| (memory.length(), memory.filled())).unwrap(), (2 * SECTION, 0));
        let taken = place(vec![file(&[1; 8192])]).unwrap();
        assert_eq!((taken.length(), taken.filled()), (2 * SECTION, 8192));
        assert!(matches!(
            FileMemory::in_place(4096, vec![file(&[1; 8192])]),
            Err(FileMemoryError::TooLong { place: 4096, files: 8192 })
        ));
    }

    #[test]
    fn what_cannot_be_memory_is_refused() {
        assert!(matches!(FileMemory::map(vec![file(&[0; 512])]), Err(FileMemoryError::Size(512))));
        assert!(matches!(FileMemory::map(vec![]), Err(FileMemoryError::Length)));
        let writable = tempfile::tempfile().unwrap().into();
        assert!(matches!(
            FileMemory::map(vec![writable]),
            Err(FileMemoryError::File(DiskError::WritableDescriptor))
        ));
    }
}
