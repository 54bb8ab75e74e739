//! The file behind a disk. Its format is raw and its access is stated, neither is ever detected.

use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::OwnedFd;

use rustix::fs::{FallocateFlags, FileType, OFlags, fallocate, fcntl_getfl, fdatasync, fstat};
use vm_memory::VolatileSlice;

use super::{SECTOR, vectored};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    ReadOnly,
    Writable,
}

pub struct Disk {
    file: File,
    access: Access,
    sectors: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("the disk's descriptor is open for writing, though the disk is read-only")]
    WritableDescriptor,
    #[error("the disk's descriptor is not open for reading and writing")]
    ReadOnlyDescriptor,
    #[error("the disk is neither a regular file nor a block device")]
    NoDisk,
    #[error("the disk's size of {0} bytes is no multiple of {SECTOR}")]
    Size(u64),
    #[error("cannot learn of the disk's file")]
    File(#[source] io::Error),
}

impl Disk {
    pub fn new(file: OwnedFd, access: Access) -> Result<Self, DiskError> {
        let mode = fcntl_getfl(&file).map_err(|error| DiskError::File(error.into()))? & OFlags::ACCMODE;
        match access {
            Access::ReadOnly if mode != OFlags::RDONLY => return Err(DiskError::WritableDescriptor),
            Access::Writable if mode != OFlags::RDWR => return Err(DiskError::ReadOnlyDescriptor),
            _ => {}
        }
        let file = File::from(file);
        let size = size(&file)?;
        if !size.is_multiple_of(SECTOR) {
            return Err(DiskError::Size(size));
        }
        Ok(Self { file, access, sectors: size / SECTOR })
    }

    pub fn access(&self) -> Access {
        self.access
    }

    pub fn sectors(&self) -> u64 {
        self.sectors
    }

    pub(super) fn read(&self, into: &[VolatileSlice<'_>], offset: u64) -> io::Result<()> {
        vectored::read_at(&self.file, into, offset)
    }

    pub(super) fn write(&self, from: &[VolatileSlice<'_>], offset: u64) -> io::Result<()> {
        vectored::write_at(&self.file, from, offset)
    }

    pub(super) fn flush(&self) -> io::Result<()> {
        Ok(fdatasync(&self.file)?)
    }

    /// Gives the space back to the host; reads as zeroes afterwards.
    pub(super) fn punch_hole(&self, offset: u64, length: u64) -> io::Result<()> {
        self.fallocate(FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, length)
    }

    /// Makes a range read as zeroes and keeps its space.
    pub(super) fn zero(&self, offset: u64, length: u64) -> io::Result<()> {
        match self.fallocate(FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, offset, length) {
            // tmpfs can punch holes, yet not zero ranges.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => self.punch_hole(offset, length),
            outcome => outcome,
        }
    }

    fn fallocate(&self, how: FallocateFlags, offset: u64, length: u64) -> io::Result<()> {
        Ok(rustix::io::retry_on_intr(|| fallocate(&self.file, how, offset, length))?)
    }
}

fn size(file: &File) -> Result<u64, DiskError> {
    let stat = fstat(file).map_err(|error| DiskError::File(error.into()))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            u64::try_from(stat.st_size).map_err(|_| DiskError::File(io::ErrorKind::InvalidData.into()))
        }
        FileType::BlockDevice => (&*file).seek(io::SeekFrom::End(0)).map_err(DiskError::File),
        _ => Err(DiskError::NoDisk),
    }
}
