//! Puts into guest memory what a firmware would have: the kernel with its initramfs, and the tables that
//! describe the machine to it.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;

use linux_loader::loader::elf::{Elf, PvhBootCapability};
use linux_loader::loader::{KernelLoader, KernelLoaderResult};
use vm_memory::{Bytes, GuestAddress};

use super::pvh::PvhError;
use super::{layout, mp_table, pvh};

use crate::memory::Memory;

const PAGE: u64 = 4096;

#[derive(Debug, thiserror::Error)]
pub enum BootError {
    #[error("the kernel is no ELF file with a PVH entry")]
    NotAKernel(#[source] linux_loader::loader::Error),
    #[error("the kernel is an ELF file without a PVH entry (CONFIG_PVH)")]
    NoPvhEntry,
    #[error("the kernel does not fit the guest's memory of {memory} MiB, or its file was cut short")]
    KernelDoesNotFit { memory: u64, source: linux_loader::loader::Error },
    #[error("{memory} MiB of guest memory are too few: kernel and initramfs need at least {needed} MiB")]
    MemoryTooSmall { memory: u64, needed: u64 },
    #[error("cannot read the initramfs")]
    Initramfs(#[source] std::io::Error),
    #[error("cannot place the initramfs in guest memory")]
    PlaceInitramfs(#[source] vm_memory::GuestMemoryError),
    #[error("cannot write the MP table to guest memory")]
    MpTable(#[source] vm_memory::GuestMemoryError),
    #[error(transparent)]
    Pvh(#[from] PvhError),
}

/// What the guest starts from.
pub struct BootSource {
    pub kernel: File,
    pub initramfs: File,
    pub command_line: String,
}

/// Fills `memory`, of so many `bytes`, and returns where the first CPU enters the kernel, which is told of all CPUs that
/// there may be.
pub fn load(memory: &Memory, bytes: u64, cpus: u8, source: &mut BootSource) -> Result<u64, BootError> {
    let kernel = load_kernel(memory, bytes, &mut source.kernel)?;
    let PvhBootCapability::PvhEntryPresent(entry) = kernel.pvh_boot_cap else {
        return Err(BootError::NoPvhEntry);
    };
    let initramfs = load_initramfs(memory, bytes, kernel.kernel_end, &mut source.initramfs)?;
    memory.write_slice(&mp_table::build(cpus), GuestAddress(layout::MP_TABLE)).map_err(BootError::MpTable)?;
    pvh::write(memory, &layout::usable_ram(bytes), &initramfs, &source.command_line)?;
    Ok(entry.0)
}

fn load_kernel(memory: &Memory, bytes: u64, kernel: &mut File) -> Result<KernelLoaderResult, BootError> {
    use linux_loader::loader::{Error, elf};
    let above_legacy_hole = GuestAddress(layout::LEGACY_HOLE.end);
    Elf::load(memory, None, kernel, Some(above_legacy_hole)).map_err(|error| match error {
        Error::Elf(elf::Error::ReadKernelImage) => {
            BootError::KernelDoesNotFit { memory: mebibytes(bytes), source: error }
        }
        _ => BootError::NotAKernel(error),
    })
}

/// Places the initramfs, page-aligned, at the end of low RAM.
fn load_initramfs(
    memory: &Memory,
    bytes: u64,
    kernel_end: u64,
    initramfs: &mut File,
) -> Result<Range<u64>, BootError> {
    let size = initramfs.metadata().map_err(BootError::Initramfs)?.size();
    let too_small = || BootError::MemoryTooSmall {
        memory: mebibytes(bytes),
        needed: mebibytes(kernel_end.saturating_add(size).saturating_add((1 << 20) - 1)),
    };
    let low_end = bytes.min(layout::HOLE.start);
    let start = low_end.checked_sub(size).ok_or_else(too_small)? / PAGE * PAGE;
    if start < kernel_end {
        return Err(too_small());
    }
    let length = usize::try_from(size).map_err(|_| too_small())?;
    memory
        .read_exact_volatile_from(GuestAddress(start), initramfs, length)
        .map_err(BootError::PlaceInitramfs)?;
    Ok(start..start + size)
}

fn mebibytes(bytes: u64) -> u64 {
    bytes >> 20
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const MIB: u64 = 1 << 20;

    fn memory(bytes: u64) -> Memory {
        crate::memory::allocate(bytes).unwrap()
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        file
    }

    /// An ELF file with one segment, loaded at 16 MiB, and perhaps a PVH note.
    fn kernel(code: &[u8], pvh_entry: Option<u32>) -> Vec<u8> {
        let at: u64 = 16 * MIB;
        let note_bytes = pvh_entry.map_or(Vec::new(), |entry| {
            let mut note = Vec::new();
            for word in [4u32, 4, 18] {
                note.extend(word.to_le_bytes());
            }
            note.extend(b"Xen\0");
            note.extend(entry.to_le_bytes());
            note
        });
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(16, 0);
        elf.extend(2u16.to_le_bytes());
        elf.extend(62u16.to_le_bytes());
        elf.extend(1u32.to_le_bytes());
        for word in [at, 64, 0] {
            elf.extend(word.to_le_bytes());
        }
        elf.extend(0u32.to_le_bytes());
        for half in [64u16, 56, 2, 0, 0, 0] {
            elf.extend(half.to_le_bytes());
        }
        let code_at = 64 + 2 * 56;
        for (kind, offset, address, length) in [
            (1u32, code_at, at, code.len() as u64),
            (4, code_at + code.len() as u64, 0, note_bytes.len() as u64),
        ] {
            elf.extend(kind.to_le_bytes());
            elf.extend(7u32.to_le_bytes());
            for word in [offset, address, address, length, length, 4] {
                elf.extend(word.to_le_bytes());
            }
        }
        elf.extend(code);
        elf.extend(note_bytes);
        elf
    }

    fn source(kernel: &[u8], initramfs: &[u8]) -> BootSource {
        BootSource { kernel: file(kernel), initramfs: file(initramfs), command_line: "quiet".into() }
    }

    #[test]
    fn kernel_and_initramfs_lie_where_they_should() {
        let memory = memory(32 * MIB);
        let mut source = source(&kernel(b"code", Some(0x100_0010)), b"initramfs");
        assert_eq!(load(&memory, 32 * MIB, 1, &mut source).unwrap(), 0x100_0010);
        let code: [u8; 4] = memory.read_obj(GuestAddress(16 * MIB)).unwrap();
        assert_eq!(&code, b"code");
        let initramfs: [u8; 9] = memory.read_obj(GuestAddress(32 * MIB - 4096)).unwrap();
        assert_eq!(&initramfs, b"initramfs");
    }

    #[test]
    fn what_is_no_kernel_is_told_in_words() {
        let memory = memory(32 * MIB);
        for foreign in [&b""[..], b"#!/bin/sh\n", b"\x7fELF"] {
            let error = load(&memory, 32 * MIB, 1, &mut source(foreign, b"")).unwrap_err();
            assert_eq!(error.to_string(), "the kernel is no ELF file with a PVH entry");
        }
        let error = load(&memory, 32 * MIB, 1, &mut source(&kernel(b"code", None), b"")).unwrap_err();
        assert!(matches!(error, BootError::NoPvhEntry));
    }

    #[test]
    fn too_little_memory_is_told_with_how_much_is_needed() {
        let kernel = kernel(b"code", Some(0x100_0000));
        let error = load(&memory(8 * MIB), 8 * MIB, 1, &mut source(&kernel, b"")).unwrap_err();
        assert!(matches!(error, BootError::KernelDoesNotFit { memory: 8, .. }));
        let large = vec![0; 2 << 20];
        let error = load(&memory(17 * MIB), 17 * MIB, 1, &mut source(&kernel, &large)).unwrap_err();
        assert!(matches!(error, BootError::MemoryTooSmall { memory: 17, needed: 19 }), "{error}");
    }
}
