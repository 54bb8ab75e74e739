//! Guest memory: anonymous, private, and taken from the host only as the guest touches it.

use vm_memory::{GuestAddress, GuestMemoryMmap};

use crate::arch::layout;

#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    #[error("{0} bytes of guest memory are not a whole number of pages, or fewer than 1 MiB")]
    Size(u64),
    #[error("cannot map {0} bytes of guest memory")]
    Map(u64, #[source] vm_memory::mmap::FromRangesError),
}

pub fn allocate(bytes: u64) -> Result<GuestMemoryMmap, MemoryError> {
    const PAGE: u64 = 4096;
    if !bytes.is_multiple_of(PAGE) || bytes < layout::LEGACY_HOLE.end {
        return Err(MemoryError::Size(bytes));
    }
    let ranges: Vec<_> = layout::ram(bytes)
        .into_iter()
        .map(|range| Ok((GuestAddress(range.start), usize::try_from(range.end - range.start)?)))
        .collect::<Result<_, std::num::TryFromIntError>>()
        .map_err(|_| MemoryError::Size(bytes))?;
    GuestMemoryMmap::from_ranges(&ranges).map_err(|error| MemoryError::Map(bytes, error))
}
