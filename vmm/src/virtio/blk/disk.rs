//! The files behind a disk, end to end. Their format is raw and the access is stated, neither is ever detected.

use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::OwnedFd;

use rustix::fs::{FallocateFlags, FileType, OFlags, fallocate, fcntl_getfl, fdatasync, fstat};
use vm_memory::VolatileSlice;

use super::{SECTOR, vectored};
use crate::virtio::chain::Run;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    ReadOnly,
    Writable,
}

pub struct Disk {
    /// In the order in which they lie on the disk.
    parts: Vec<Part>,
    access: Access,
    sectors: u64,
}

/// A file, and which bytes of the disk are its.
struct Part {
    file: File,
    start: u64,
    end: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("the disk's descriptor is open for writing, though the disk is read-only")]
    WritableDescriptor,
    #[error("the disk's descriptor is not open for reading and writing")]
    ReadOnlyDescriptor,
    #[error("the disk is neither a regular file nor a block device")]
    NoDisk,
    #[error("the disk's file of {0} bytes is no multiple of {SECTOR}")]
    Size(u64),
    #[error("the disk's files are larger than a disk can be")]
    TooLarge,
    #[error("cannot learn of the disk's file")]
    File(#[source] io::Error),
}

impl Disk {
    /// The disk of a device that has none yet.
    pub fn none() -> Self {
        Self { parts: Vec::new(), access: Access::ReadOnly, sectors: 0 }
    }

    /// A disk over one file, or over several that follow each other on it.
    pub fn new(files: Vec<OwnedFd>, access: Access) -> Result<Self, DiskError> {
        let mut parts = Vec::with_capacity(files.len());
        let mut start: u64 = 0;
        for file in files {
            let (file, size) = disk_file(file, access)?;
            if !size.is_multiple_of(SECTOR) {
                return Err(DiskError::Size(size));
            }
            let end = start.checked_add(size).ok_or(DiskError::TooLarge)?;
            parts.push(Part { file, start, end });
            start = end;
        }
        Ok(Self { parts, access, sectors: start / SECTOR })
    }

    pub fn access(&self) -> Access {
        self.access
    }

    pub fn sectors(&self) -> u64 {
        self.sectors
    }

    pub(super) fn read(&self, into: &Run<'_>, offset: u64) -> io::Result<()> {
        self.transfer(into, offset, vectored::read_at)
    }

    pub(super) fn write(&self, from: &Run<'_>, offset: u64) -> io::Result<()> {
        self.transfer(from, offset, vectored::write_at)
    }

    pub(super) fn flush(&self) -> io::Result<()> {
        self.parts.iter().try_for_each(|part| Ok(fdatasync(&part.file)?))
    }

    /// Gives the space back to the host; reads as zeroes afterwards.
    pub(super) fn punch_hole(&self, offset: u64, length: u64) -> io::Result<()> {
        self.for_each_part(offset, length, |file, at, count| {
            change(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, at, count)
        })
    }

    /// Makes a range read as zeroes and keeps its space.
    pub(super) fn zero(&self, offset: u64, length: u64) -> io::Result<()> {
        let zeroed = self.for_each_part(offset, length, |file, at, count| {
            change(file, FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, at, count)
        });
        match zeroed {
            // tmpfs can punch holes, yet not zero ranges.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => self.punch_hole(offset, length),
            outcome => outcome,
        }
    }

    /// Moves bytes between guest memory and the files they are in: nearly always, a single one.
    fn transfer(
        &self,
        memory: &Run<'_>,
        offset: u64,
        call: impl Fn(&File, &[VolatileSlice<'_>], u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut done = 0;
        self.for_each_part(offset, memory.len(), |file, at, count| {
            if count == memory.len() {
                return call(file, memory.slices(), at);
            }
            let piece = memory.split_at(done).and_then(|(_, rest)| rest.split_at(count));
            let (piece, _) = piece.ok_or(io::ErrorKind::InvalidInput)?;
            done += count;
            call(file, piece.slices(), at)
        })
    }

    /// Calls `act` for each file that has a part of the range, with the place in it and the number of bytes.
    fn for_each_part(
        &self,
        mut offset: u64,
        length: u64,
        mut act: impl FnMut(&File, u64, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let end = offset.checked_add(length).ok_or(io::ErrorKind::InvalidInput)?;
        let first = self.parts.partition_point(|part| part.end <= offset);
        for part in self.parts.iter().skip(first).take_while(|part| part.start < end) {
            let count = end.min(part.end) - offset;
            if count > 0 {
                act(&part.file, offset - part.start, count)?;
                offset += count;
            }
        }
        if offset == end { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

fn change(file: &File, how: FallocateFlags, offset: u64, length: u64) -> io::Result<()> {
    Ok(rustix::io::retry_on_intr(|| fallocate(file, how, offset, length))?)
}

/// A disk's file, which has to be open as the access says, and its size in bytes.
pub fn disk_file(file: OwnedFd, access: Access) -> Result<(File, u64), DiskError> {
    let mode = fcntl_getfl(&file).map_err(|error| DiskError::File(error.into()))? & OFlags::ACCMODE;
    match access {
        Access::ReadOnly if mode != OFlags::RDONLY => return Err(DiskError::WritableDescriptor),
        Access::Writable if mode != OFlags::RDWR => return Err(DiskError::ReadOnlyDescriptor),
        _ => {}
    }
    let file = File::from(file);
    let size = size(&file)?;
    Ok((file, size))
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
