//! Guest memory, of contiguous pieces: RAM, and the room a VM may grow into.
//!
//! Of the room only what was opened is guest memory: to KVM, to the devices, and to this process, which cannot touch the
//! rest. It opens from its start on and never closes, so that what a device has found to be memory stays that.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{MprotectFlags, mprotect};
use vm_memory::bitmap::BS;
use vm_memory::mmap::MmapRegionError;
use vm_memory::{
    Address, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryRegion,
    GuestMemoryRegionBytes, GuestRegionMmap, GuestUsize, MemoryRegionAddress, MmapRegion, VolatileSlice,
};

/// All of a guest's memory; clones are the same memory.
#[derive(Debug, Clone)]
pub struct Memory {
    /// In rising order, and apart.
    regions: Vec<Arc<Region>>,
}

impl Memory {
    pub(super) fn new(regions: Vec<Region>) -> Self {
        Self { regions: regions.into_iter().map(Arc::new).collect() }
    }
}

impl GuestMemoryBackend for Memory {
    type R = Region;

    fn num_regions(&self) -> usize {
        self.regions.len()
    }

    /// Not that of the library, which takes a region to be memory at its first address at least.
    fn find_region(&self, address: GuestAddress) -> Option<&Region> {
        self.iter().find(|region| region.to_region_addr(address).is_some())
    }

    fn iter(&self) -> impl Iterator<Item = &Region> {
        self.regions.iter().map(Arc::as_ref)
    }
}

#[derive(Debug)]
pub struct Region {
    mapping: GuestRegionMmap,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Ram,
    /// Of which so many bytes are open.
    Room(AtomicU64),
}

impl Region {
    /// `None` if it ends beyond all addresses.
    pub(super) fn ram(mapping: MmapRegion, address: GuestAddress) -> Option<Self> {
        Some(Self { mapping: GuestRegionMmap::new(mapping, address)?, kind: Kind::Ram })
    }

    /// A room of which nothing is open: addresses, and no memory.
    pub(super) fn room(size: usize, address: GuestAddress) -> Result<Option<Self>, MmapRegionError> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let mapping = MmapRegion::build(None, size, libc::PROT_NONE, flags)?;
        let mapping = GuestRegionMmap::new(mapping, address);
        Ok(mapping.map(|mapping| Self { mapping, kind: Kind::Room(AtomicU64::new(0)) }))
    }

    pub fn is_ram(&self) -> bool {
        matches!(self.kind, Kind::Ram)
    }

    /// Where in this process it lies.
    pub fn as_ptr(&self) -> *mut u8 {
        self.mapping.as_ptr()
    }

    /// Whether what is written to it is written to a file.
    pub(super) fn is_shared(&self) -> bool {
        self.mapping.flags() & libc::MAP_SHARED != 0
    }

    /// In bytes, with what is not open.
    pub fn size(&self) -> u64 {
        self.mapping.len()
    }

    /// Opens a room up to `to` bytes from its start; what is open stays open.
    pub fn open(&self, to: u64) -> io::Result<()> {
        let Kind::Room(open) = &self.kind else { return Err(io::ErrorKind::InvalidInput.into()) };
        let length = usize::try_from(to).ok().filter(|length| *length <= self.mapping.size());
        let length = length.ok_or(io::ErrorKind::InvalidInput)?;
        if to > open.load(Ordering::Acquire) {
            let access = MprotectFlags::READ | MprotectFlags::WRITE;
            // SAFETY: the range is the beginning of the region's own mapping, which is given more access, never less.
            unsafe { mprotect(self.as_ptr().cast(), length, access) }?;
            open.fetch_max(to, Ordering::AcqRel);
        }
        Ok(())
    }
}

impl GuestMemoryRegion for Region {
    type B = ();

    fn len(&self) -> GuestUsize {
        match &self.kind {
            Kind::Ram => self.mapping.len(),
            Kind::Room(open) => open.load(Ordering::Acquire),
        }
    }

    fn start_addr(&self) -> GuestAddress {
        self.mapping.start_addr()
    }

    fn last_addr(&self) -> GuestAddress {
        self.start_addr().unchecked_add(self.len().saturating_sub(1))
    }

    fn bitmap(&self) -> BS<'_, Self::B> {}

    fn get_host_address(&self, address: MemoryRegionAddress) -> Result<*mut u8, GuestMemoryError> {
        self.check_address(address).ok_or(GuestMemoryError::InvalidBackendAddress)?;
        self.mapping.get_host_address(address)
    }

    fn file_offset(&self) -> Option<&FileOffset> {
        self.mapping.file_offset()
    }

    fn get_slice(
        &self,
        offset: MemoryRegionAddress,
        count: usize,
    ) -> Result<VolatileSlice<'_, BS<'_, Self::B>>, GuestMemoryError> {
        let end = offset.raw_value().checked_add(count as u64);
        if end.is_none_or(|end| end > self.len()) {
            return Err(GuestMemoryError::InvalidBackendAddress);
        }
        self.mapping.get_slice(offset, count)
    }
}

impl GuestMemoryRegionBytes for Region {}

#[cfg(test)]
mod tests {
    use vm_memory::Bytes;

    use crate::arch::layout;
    use crate::memory::{allocate, room};

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_room_is_memory_as_far_as_it_was_opened() {
        let memory = allocate(4 * MIB).unwrap();
        let start = GuestAddress(layout::room(4 * MIB).start);
        assert!(memory.read_obj::<u8>(start).is_err());
        assert!(memory.to_region_addr(start).is_none());
        room(&memory).unwrap().open(2 * MIB).unwrap();
        let last = start.unchecked_add(2 * MIB - 8);
        memory.write_obj(7u64, last).unwrap();
        assert_eq!(memory.read_obj::<u64>(last).unwrap(), 7);
        assert!(memory.write_obj(7u64, last.unchecked_add(1)).is_err());
        assert!(memory.get_slices(last, 9).any(|slice| slice.is_err()));
        // What is open stays open, and a clone of the memory sees what is opened later.
        let clone = memory.clone();
        room(&memory).unwrap().open(MIB).unwrap();
        room(&memory).unwrap().open(4 * MIB).unwrap();
        clone.write_obj(8u64, last.unchecked_add(1)).unwrap();
    }

    #[test]
    fn there_is_an_end_to_a_room_and_ram_is_none() {
        let memory = allocate(4 * MIB).unwrap();
        let room = room(&memory).unwrap();
        assert!(room.open(room.size() + 1).is_err());
        assert!(memory.iter().next().unwrap().open(MIB).is_err());
    }
}
