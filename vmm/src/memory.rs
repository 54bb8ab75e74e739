//! Guest memory: private, and taken from the host only as the guest touches it.
//!
//! Nobody's file as a rule. A VM that is to be saved has a file as its memory, which is then all there is to save of it;
//! a VM that goes on from there sees the file, and keeps what it writes to itself. What the guest frees is given back.
//!
//! Behind RAM is room for the VM to grow into: see [`Region`] and [`mem`](crate::virtio::mem).

mod data;
mod give_back;
mod large_pages;
mod region;

use std::fs::File;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{fstat, ftruncate};
use vm_memory::mmap::MmapRegionError;
use vm_memory::{Address, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryRegion, MmapRegion};

use crate::arch::layout;

pub use give_back::give_back;
pub use large_pages::make_large;
pub use region::{Memory, Region};

/// In bytes.
pub const PAGE: u64 = 4096;

#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    #[error("{0} bytes of guest memory are not a whole number of pages, or fewer than 1 MiB")]
    Size(u64),
    #[error("cannot map {0} bytes of guest memory")]
    Map(u64, #[source] MmapRegionError),
    #[error("cannot map the data of a file of guest memory")]
    Data(#[source] std::io::Error),
    #[error("cannot use the file of guest memory")]
    File(#[source] std::io::Error),
    #[error("the file of {expected} bytes of guest memory has {actual}")]
    FileSize { expected: u64, actual: u64 },
}

pub fn allocate(bytes: u64) -> Result<Memory, MemoryError> {
    map(bytes, |size, _| anonymous(size).map_err(|error| MemoryError::Map(bytes, error)))
}

/// Makes an empty file the guest's memory.
pub fn in_file(bytes: u64, file: OwnedFd) -> Result<Memory, MemoryError> {
    ftruncate(&file, bytes).map_err(|error| MemoryError::File(error.into()))?;
    let file = Arc::new(File::from(file));
    map(bytes, |size, offset| {
        let place = FileOffset::from_arc(Arc::clone(&file), offset);
        region(Some(place), size, libc::MAP_SHARED).map_err(|error| MemoryError::Map(bytes, error))
    })
}

/// Guest memory that begins as the file has it. It lies so that the file's large pages are the guest's, too.
pub fn from_file(bytes: u64, file: OwnedFd) -> Result<Memory, MemoryError> {
    let size = fstat(&file).map_err(|error| MemoryError::File(error.into()))?.st_size;
    let actual = u64::try_from(size).unwrap_or_default();
    if actual != bytes {
        return Err(MemoryError::FileSize { expected: bytes, actual });
    }
    let file = File::from(file);
    map(bytes, |size, offset| {
        // Linux aligns anonymous memory of whole large pages, and such a file only where its file system says so.
        let mapping = anonymous(size).map_err(|error| MemoryError::Map(bytes, error))?;
        data::lay(&mapping, &file, offset).map_err(MemoryError::Data)?;
        Ok(mapping)
    })
}

/// What a VM has of RAM from the start, in rising order.
pub fn ram(memory: &Memory) -> impl Iterator<Item = &Region> {
    memory.iter().filter(|region| region.is_ram())
}

/// What it may grow into.
pub fn room(memory: &Memory) -> Option<&Region> {
    memory.iter().find(|region| !region.is_ram())
}

/// Where that is.
pub fn room_addresses(memory: &Memory) -> Range<u64> {
    room(memory).map_or(0..0, |room| {
        let start = room.start_addr().raw_value();
        start..start.saturating_add(room.size())
    })
}

/// Each range of RAM as `region` maps it, of its size and place in a file: one behind the other. And room behind them.
fn map(
    bytes: u64,
    region: impl Fn(usize, u64) -> Result<MmapRegion, MemoryError>,
) -> Result<Memory, MemoryError> {
    let mut regions = Vec::new();
    for (address, size, offset) in ranges(bytes)? {
        let region = Region::ram(region(size, offset)?, address);
        regions.push(region.ok_or(MemoryError::Size(bytes))?);
    }
    let room = layout::room(bytes);
    let size = usize::try_from(room.end - room.start).map_err(|_| MemoryError::Size(bytes))?;
    let room = Region::room(size, GuestAddress(room.start));
    let room = room.map_err(|error| MemoryError::Map(bytes, error))?;
    regions.push(room.ok_or(MemoryError::Size(bytes))?);
    Ok(Memory::new(regions))
}

fn anonymous(size: usize) -> Result<MmapRegion, MmapRegionError> {
    region(None, size, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS)
}

fn region(file: Option<FileOffset>, size: usize, flags: i32) -> Result<MmapRegion, MmapRegionError> {
    MmapRegion::build(file, size, libc::PROT_READ | libc::PROT_WRITE, flags | libc::MAP_NORESERVE)
}

/// Address, size and place in a file of each range of RAM.
fn ranges(bytes: u64) -> Result<Vec<(GuestAddress, usize, u64)>, MemoryError> {
    if !bytes.is_multiple_of(PAGE) || bytes < layout::LEGACY_HOLE.end {
        return Err(MemoryError::Size(bytes));
    }
    let mut offset = 0;
    let mut ranges = Vec::new();
    for range in layout::ram(bytes) {
        let size = range.end - range.start;
        ranges.push((
            GuestAddress(range.start),
            usize::try_from(size).map_err(|_| MemoryError::Size(bytes))?,
            offset,
        ));
        offset += size;
    }
    Ok(ranges)
}

/// Memory at these addresses, of these sizes, without room.
#[cfg(test)]
pub(crate) fn at(ranges: &[(u64, usize)]) -> Memory {
    let region =
        |(address, size): &(u64, usize)| Region::ram(anonymous(*size).unwrap(), GuestAddress(*address));
    Memory::new(ranges.iter().filter_map(region).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::Bytes;

    const MIB: u64 = 1 << 20;

    fn duplicate(file: &File) -> OwnedFd {
        file.try_clone().unwrap().into()
    }

    #[test]
    fn one_writes_the_file_and_the_next_go_on_from_it_apart() {
        let file = tempfile::tempfile().unwrap();
        let first = in_file(2 * MIB, duplicate(&file)).unwrap();
        first.write_obj(7u64, GuestAddress(MIB)).unwrap();
        drop(first);
        let [one, other] = [(); 2].map(|()| from_file(2 * MIB, duplicate(&file)).unwrap());
        one.write_obj(8u64, GuestAddress(MIB)).unwrap();
        assert_eq!(one.read_obj::<u64>(GuestAddress(MIB)).unwrap(), 8);
        assert_eq!(other.read_obj::<u64>(GuestAddress(MIB)).unwrap(), 7);
    }

    #[test]
    fn a_file_of_another_size_is_refused() {
        let file = tempfile::tempfile().unwrap();
        drop(in_file(2 * MIB, duplicate(&file)).unwrap());
        let refused = from_file(4 * MIB, duplicate(&file));
        assert!(matches!(refused, Err(MemoryError::FileSize { expected: 0x40_0000, actual: 0x20_0000 })));
    }
}
