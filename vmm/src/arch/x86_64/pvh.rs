//! The PVH boot protocol (Xen docs/misc/pvh.pandoc): the structures that tell the kernel of its memory, its
//! initramfs and its command line.

use std::ops::Range;

use linux_loader::configurator::pvh::PvhBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::elf::start_info::{
    XEN_HVM_MEMMAP_TYPE_RAM, XEN_HVM_START_MAGIC_VALUE, hvm_memmap_table_entry, hvm_modlist_entry,
    hvm_start_info,
};
use vm_memory::{Bytes, GuestAddress};

use super::layout;

use crate::memory::Memory;

#[derive(Debug, thiserror::Error)]
pub enum PvhError {
    #[error("the kernel's command line has {0} bytes, more than {max}", max = layout::COMMAND_LINE_BYTES - 1)]
    CommandLineTooLong(usize),
    #[error("the kernel's command line holds a zero byte")]
    CommandLineHasZero,
    #[error("cannot write the kernel's command line to guest memory")]
    CommandLine(#[source] vm_memory::GuestMemoryError),
    #[error("cannot write the PVH start info to guest memory")]
    StartInfo(#[source] linux_loader::configurator::Error),
}

/// Writes everything a PVH kernel reads at its start; it finds it through [`layout::START_INFO`].
pub fn write(
    memory: &Memory,
    usable_ram: &[Range<u64>],
    initramfs: &Range<u64>,
    command_line: &str,
) -> Result<(), PvhError> {
    write_command_line(memory, command_line)?;
    let map: Vec<_> = usable_ram
        .iter()
        .map(|range| hvm_memmap_table_entry {
            addr: range.start,
            size: range.end - range.start,
            type_: XEN_HVM_MEMMAP_TYPE_RAM,
            reserved: 0,
        })
        .collect();
    let modules = [hvm_modlist_entry {
        paddr: initramfs.start,
        size: initramfs.end - initramfs.start,
        ..Default::default()
    }];
    let start_info = hvm_start_info {
        magic: XEN_HVM_START_MAGIC_VALUE,
        version: 1,
        nr_modules: 1,
        modlist_paddr: layout::MODULE_LIST,
        cmdline_paddr: layout::COMMAND_LINE,
        memmap_paddr: layout::MEMORY_MAP,
        // A handful of ranges.
        memmap_entries: u32::try_from(map.len()).unwrap_or(u32::MAX),
        ..Default::default()
    };
    let mut parameters = BootParams::new(&start_info, GuestAddress(layout::START_INFO));
    parameters.set_sections(&map, GuestAddress(layout::MEMORY_MAP));
    parameters.set_modules(&modules, GuestAddress(layout::MODULE_LIST));
    PvhBootConfigurator::write_bootparams(&parameters, memory).map_err(PvhError::StartInfo)
}

fn write_command_line(memory: &Memory, command_line: &str) -> Result<(), PvhError> {
    let mut bytes = command_line.as_bytes().to_vec();
    if bytes.contains(&0) {
        return Err(PvhError::CommandLineHasZero);
    }
    bytes.push(0);
    if bytes.len() > layout::COMMAND_LINE_BYTES {
        return Err(PvhError::CommandLineTooLong(bytes.len() - 1));
    }
    memory.write_slice(&bytes, GuestAddress(layout::COMMAND_LINE)).map_err(PvhError::CommandLine)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn read<T: vm_memory::ByteValued>(memory: &Memory, at: u64) -> T {
        memory.read_obj(GuestAddress(at)).unwrap()
    }

    #[test]
    fn the_kernel_finds_memory_initramfs_and_command_line() {
        let memory = crate::memory::allocate(4 << 20).unwrap();
        let usable = layout::usable_ram(4 * MIB);
        write(&memory, &usable, &(3 * MIB..3 * MIB + 5), "console=ttyS0").unwrap();

        let start_info: hvm_start_info = read(&memory, layout::START_INFO);
        assert_eq!(start_info.magic, 0x336e_c578);
        assert_eq!(start_info.nr_modules, 1);
        let module: hvm_modlist_entry = read(&memory, start_info.modlist_paddr);
        assert_eq!((module.paddr, module.size), (3 * MIB, 5));
        let line: [u8; 14] = read(&memory, start_info.cmdline_paddr);
        assert_eq!(&line, b"console=ttyS0\0");
        let entries: Vec<hvm_memmap_table_entry> = (0..u64::from(start_info.memmap_entries))
            .map(|index| read(&memory, start_info.memmap_paddr + index * 24))
            .collect();
        let ranges: Vec<_> = entries.iter().map(|entry| entry.addr..entry.addr + entry.size).collect();
        assert_eq!(ranges, usable);
        assert!(entries.iter().all(|entry| entry.type_ == 1));
    }

    #[test]
    fn a_command_line_the_kernel_would_cut_short_is_refused() {
        let memory = crate::memory::allocate(4 << 20).unwrap();
        let longest = "x".repeat(layout::COMMAND_LINE_BYTES - 1);
        assert!(write_command_line(&memory, &longest).is_ok());
        let longer = format!("{longest}x");
        assert!(matches!(write_command_line(&memory, &longer), Err(PvhError::CommandLineTooLong(2048))));
        assert!(matches!(write_command_line(&memory, "a\0b"), Err(PvhError::CommandLineHasZero)));
    }
}
