//! Holes of a file that guest memory begins as: memory that is nobody's file.
//!
//! A hole that is read through a mapping of the file becomes pages of the file, which all clones of a template would fill
//! up between them, and which are never large ones.

use std::fs::File;
use std::io;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use vm_memory::MmapRegion;

use super::PAGE;

/// Smaller ones are not worth a mapping of their own.
const LEAST: u64 = 1 << 20;

/// Lays private memory over the holes of the file that `region` maps privately from `offset` on.
pub(super) fn cover(region: &MmapRegion, file: &File, offset: u64) -> io::Result<()> {
    let end = offset.saturating_add(region.size() as u64);
    let mut at = offset;
    while at < end {
        let hole = seek(file, SeekFrom::Hole(at))?.min(end);
        let data = match seek(file, SeekFrom::Data(hole)) {
            // No more data.
            Err(Errno::NXIO) => end,
            data => data?.min(end),
        };
        let (start, stop) = (hole.next_multiple_of(PAGE), data - data % PAGE);
        if stop.saturating_sub(start) >= LEAST {
            lay(region, start - offset, stop - start)?;
        }
        at = data;
    }
    Ok(())
}

fn lay(region: &MmapRegion, start: u64, length: u64) -> io::Result<()> {
    let [start, length] = [start, length].map(usize::try_from);
    let (start, length) = (start.map_err(io::Error::other)?, length.map_err(io::Error::other)?);
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
    // SAFETY: the place lies within the region, `cover` sees to that. Nobody else knows of it yet, and when it is unmapped
    // as a whole this goes with it.
    let place = unsafe {
        let place = region.as_ptr().byte_add(start).cast();
        mmap_anonymous(place, length, ProtFlags::READ | ProtFlags::WRITE, flags)
    };
    place.map(drop).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::super::from_file;
    use super::*;
    use rustix::fs::{MemfdFlags, memfd_create};
    use std::os::unix::fs::FileExt;
    use vm_memory::{Bytes, GuestAddress};

    const MIB: u64 = 1 << 20;

    #[test]
    fn large_holes_are_nobodys_file_and_all_else_is_the_file() {
        let file = File::from(memfd_create("memory", MemfdFlags::CLOEXEC).unwrap());
        file.set_len(16 * MIB).unwrap();
        // Holes: just too small, just large enough, and the rest.
        let written = [MIB - 4096, 2 * MIB - 4096, 3 * MIB, 6 * MIB];
        for at in written {
            file.write_all_at(&[1; 4096], at).unwrap();
        }
        let memory = from_file(16 * MIB, file.try_clone().unwrap().into()).unwrap();
        // What is the file's shows what is written there now.
        let now = [0, MIB, 2 * MIB, 4 * MIB, 15 * MIB];
        for at in now {
            file.write_all_at(&[2; 4096], at).unwrap();
        }
        let shows = |at| memory.read_obj::<u8>(GuestAddress(at)).unwrap();
        assert_eq!(written.map(shows), [1; 4]);
        assert_eq!(now.map(shows), [2, 2, 0, 0, 0]);
    }

    #[test]
    fn reading_holes_leaves_them() {
        use std::os::unix::fs::MetadataExt;
        let file = File::from(memfd_create("memory", MemfdFlags::CLOEXEC).unwrap());
        file.set_len(8 * MIB).unwrap();
        file.write_all_at(&[1; 4096], 4 * MIB).unwrap();
        let memory = from_file(8 * MIB, file.try_clone().unwrap().into()).unwrap();
        let mut read = vec![0; 8 << 20];
        memory.read_slice(&mut read, GuestAddress(0)).unwrap();
        assert_eq!(read.iter().filter(|byte| **byte == 1).count(), 4096);
        assert_eq!(file.metadata().unwrap().blocks(), 8);
        // Each is there to be written, to its last byte.
        memory.write_slice(&vec![3; 8 << 20], GuestAddress(0)).unwrap();
        assert_eq!(file.metadata().unwrap().blocks(), 8);
    }

    #[test]
    fn a_file_that_is_full_or_empty_is_memory_all_the_same() {
        for written in [0, 4] {
            let file = File::from(memfd_create("memory", MemfdFlags::CLOEXEC).unwrap());
            file.set_len(4 * MIB).unwrap();
            file.write_all_at(&vec![7; written << 20], 0).unwrap();
            let memory = from_file(4 * MIB, file.into()).unwrap();
            let last: u8 = memory.read_obj(GuestAddress(4 * MIB - 1)).unwrap();
            assert_eq!(last, if written == 0 { 0 } else { 7 });
        }
    }
}
