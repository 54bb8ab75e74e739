//! The guest-physical address space.
//!
//! ```text
//! 0x0000_6000  PVH start info, its module list and memory map; the command line at 0x2_0000
//! 0x000a_0000  legacy hole, not RAM to the kernel; the MP table at 0xf_0000
//! 0x0010_0000  kernel, where it was linked to lie; the initramfs at the end of low RAM
//! 0xc000_0000  PCI memory window, up to the I/O APIC at 0xfec0_0000
//! 0xfee0_0000  local APICs; KVM's own pages from 0xfffb_c000
//! 0x1_0000_0000  RAM that found no place below the hole
//! from a GiB on  room to grow into, behind all RAM; behind that a disk as persistent memory
//! ```

use std::ops::Range;

use vmm_api::MEMORY_ROOM;

/// PVH start info with what it points to (Xen docs/misc/pvh.pandoc).
pub const START_INFO: u64 = 0x6000;
pub const MODULE_LIST: u64 = 0x6800;
pub const MEMORY_MAP: u64 = 0x7000;
pub const COMMAND_LINE: u64 = 0x2_0000;
/// The kernel's COMMAND_LINE_SIZE, with the closing zero.
pub const COMMAND_LINE_BYTES: usize = 2048;

/// Conventional memory ends here, and the legacy hole begins.
pub const LEGACY_HOLE: Range<u64> = 0xa_0000..0x10_0000;
/// In the BIOS area, one of the places where the kernel looks for it (MP specification 1.4 §4).
pub const MP_TABLE: u64 = 0xf_0000;

/// No RAM lies here: devices and interrupt controllers do.
pub const HOLE: Range<u64> = 0xc000_0000..0x1_0000_0000;
/// Where BARs are placed.
pub const PCI_WINDOW: Range<u64> = 0xc000_0000..IO_APIC;
pub const IO_APIC: u64 = 0xfec0_0000;
pub const LOCAL_APIC: u64 = 0xfee0_0000;
/// A page and three pages that KVM uses to run real mode on Intel CPUs.
pub const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;
pub const KVM_TSS: usize = 0xfffb_d000;

/// The guest-physical ranges that are RAM, in rising order, for a guest with so many bytes of it.
pub fn ram(bytes: u64) -> Vec<Range<u64>> {
    let low = bytes.min(HOLE.start);
    let above = HOLE.end..HOLE.end.saturating_add(bytes - low);
    [0..low, above].into_iter().filter(|range| !range.is_empty()).collect()
}

/// What a guest with so many bytes of RAM may grow into. Its address is aligned so that the kernel maps it, and what
/// follows, in large pages.
pub fn room(bytes: u64) -> Range<u64> {
    const GIB: u64 = 1 << 30;
    let ram_end = ram(bytes).last().map_or(0, |range| range.end);
    let start = ram_end.max(HOLE.end).div_ceil(GIB).saturating_mul(GIB);
    start..start.saturating_add(MEMORY_ROOM)
}

/// Where persistent memory begins, in a guest with so many bytes of RAM.
pub fn persistent_memory(bytes: u64) -> u64 {
    room(bytes).end
}

/// The RAM the kernel may use: `ram` without the legacy hole.
pub fn usable_ram(bytes: u64) -> Vec<Range<u64>> {
    let below_legacy = 0..LEGACY_HOLE.start.min(bytes);
    let rest = ram(bytes).into_iter().map(|range| range.start.max(LEGACY_HOLE.end)..range.end);
    std::iter::once(below_legacy).chain(rest).filter(|range| !range.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GIB: u64 = 1 << 30;

    #[test]
    #[allow(clippy::single_range_in_vec_init, reason = "one range is what is meant")]
    fn a_guest_larger_than_the_space_below_the_hole_gets_the_rest_above_it() {
        assert_eq!(ram(GIB), [0..GIB]);
        assert_eq!(ram(3 * GIB), [0..3 * GIB]);
        assert_eq!(ram(5 * GIB), [0..3 * GIB, 4 * GIB..6 * GIB]);
    }

    #[test]
    fn there_is_room_behind_ram_and_hole_and_persistent_memory_behind_that() {
        for (ram, start) in [(GIB, 4 * GIB), (5 * GIB, 6 * GIB), (5 * GIB + 4096, 7 * GIB)] {
            assert_eq!(room(ram), start..start + MEMORY_ROOM);
            assert_eq!(persistent_memory(ram), start + MEMORY_ROOM);
        }
    }

    proptest! {
        #[test]
        fn ram_adds_up_and_keeps_out_of_the_hole(pages in 1u64..(1 << 30)) {
            let bytes = pages * 4096;
            let ranges = ram(bytes);
            prop_assert_eq!(ranges.iter().map(|range| range.end - range.start).sum::<u64>(), bytes);
            for range in ranges {
                prop_assert!(range.end <= HOLE.start || range.start >= HOLE.end);
            }
        }

        #[test]
        fn the_kernel_is_never_given_the_legacy_hole(pages in 1u64..(1 << 22)) {
            for range in usable_ram(pages * 4096) {
                prop_assert!(range.end <= LEGACY_HOLE.start || range.start >= LEGACY_HOLE.end);
            }
        }
    }
}
