//! Guest memory that the guest has no use for, given back to the host.

use rustix::mm::{Advice, madvise};
use vm_memory::{Address, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use super::{Memory, PAGE};

/// Gives back the whole pages of a buffer that lies in guest memory, and nothing of one that does not. What they hold
/// from then on is zeroes, or where the memory began as a file has it, that file's content.
pub fn give_back(memory: &Memory, buffer: GuestAddress, length: u32) {
    // Nothing can be done where the kernel does not take them (a file system whose files have no holes): they stay.
    let _ = try_give_back(memory, buffer, length);
}

fn try_give_back(memory: &Memory, buffer: GuestAddress, length: u32) -> Option<()> {
    let (region, offset) = memory.to_region_addr(buffer)?;
    region.get_slice(offset, usize::try_from(length).ok()?).ok()?;
    // Regions begin at whole pages, in the guest as here.
    let to_page = offset.raw_value().checked_next_multiple_of(PAGE)? - offset.raw_value();
    let pages = u64::from(length).checked_sub(to_page)? / PAGE;
    let pages = region.get_slice(offset.checked_add(to_page)?, usize::try_from(pages * PAGE).ok()?).ok()?;
    let advice = match region.is_shared() {
        false => Advice::LinuxDontNeed,
        // The pages are the file's: only a hole in it is no memory.
        true => Advice::LinuxRemove,
    };
    // SAFETY: the range is part of a mapping that `memory` holds, and stays mapped. That its content changes is no news
    // to anyone: it is guest memory, which the guest writes at any time, so that all access here is volatile and there
    // are no references to it.
    unsafe { madvise(pages.ptr_guard_mut().as_ptr().cast(), pages.len(), advice) }.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{allocate, from_file, in_file};
    use rustix::fs::{MemfdFlags, memfd_create};
    use std::fs::File;
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::{FileExt, MetadataExt};
    use vm_memory::Bytes;

    const MIB: u64 = 1 << 20;
    const PAGES: usize = 4 * 4096;

    fn file() -> (File, OwnedFd) {
        let file = File::from(memfd_create("memory", MemfdFlags::CLOEXEC).unwrap());
        let other = file.try_clone().unwrap().into();
        (file, other)
    }

    fn fill(memory: &Memory) {
        memory.write_slice(&[0xaa; PAGES], GuestAddress(MIB)).unwrap();
    }

    /// The first byte of each page, where all others are the same.
    fn pages(memory: &Memory) -> Vec<u8> {
        let mut bytes = [0; PAGES];
        memory.read_slice(&mut bytes, GuestAddress(MIB)).unwrap();
        bytes
            .chunks(4096)
            .map(|page| {
                assert!(page.iter().all(|byte| *byte == page[0]));
                page[0]
            })
            .collect()
    }

    #[test]
    fn memory_that_is_nobodys_file_is_zeroes_afterwards() {
        let memory = allocate(4 * MIB).unwrap();
        fill(&memory);
        give_back(&memory, GuestAddress(MIB + 4096), 8192);
        assert_eq!(pages(&memory), [0xaa, 0, 0, 0xaa]);
    }

    #[test]
    fn a_file_that_is_the_memory_gets_a_hole() {
        let (file, other) = file();
        let memory = in_file(4 * MIB, other).unwrap();
        fill(&memory);
        assert_eq!(file.metadata().unwrap().blocks(), 32);
        give_back(&memory, GuestAddress(MIB), 8192);
        assert_eq!(file.metadata().unwrap().blocks(), 16);
        assert_eq!(pages(&memory), [0, 0, 0xaa, 0xaa]);
    }

    #[test]
    fn a_file_that_memory_began_as_keeps_its_content() {
        let (file, other) = file();
        file.set_len(4 * MIB).unwrap();
        file.write_all_at(&[0x55; PAGES], MIB).unwrap();
        let memory = from_file(4 * MIB, other).unwrap();
        fill(&memory);
        give_back(&memory, GuestAddress(MIB), 8192);
        assert_eq!(pages(&memory), [0x55, 0x55, 0xaa, 0xaa]);
        let mut content = [0; PAGES];
        file.read_exact_at(&mut content, MIB).unwrap();
        assert_eq!(content, [0x55; PAGES]);
    }

    #[test]
    fn only_whole_pages_go() {
        let memory = allocate(4 * MIB).unwrap();
        for (start, length, expected) in [
            (0, 4095, [0xaa; 4]),
            (1, 4096, [0xaa; 4]),
            (1, 8190, [0xaa; 4]),
            (1, 8191, [0xaa, 0, 0xaa, 0xaa]),
            (4095, 8193, [0xaa, 0, 0, 0xaa]),
            (4095, 1, [0xaa; 4]),
            (0, 0, [0xaa; 4]),
        ] {
            fill(&memory);
            give_back(&memory, GuestAddress(MIB + start), length);
            assert_eq!(pages(&memory), expected, "{start} {length}");
        }
    }

    #[test]
    fn a_buffer_that_leaves_guest_memory_is_left_alone() {
        let memory = allocate(4 * MIB).unwrap();
        fill(&memory);
        for (start, length) in [
            (MIB, u32::MAX),
            (MIB, 3 * (1 << 20) + 1),
            (4 * MIB, 4096),
            (0xc000_0000, 4096),
            (u64::MAX - 4095, 4096),
            (u64::MAX, u32::MAX),
        ] {
            give_back(&memory, GuestAddress(start), length);
            assert_eq!(pages(&memory), [0xaa; 4]);
        }
    }
}
