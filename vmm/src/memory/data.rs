//! Data of a file that guest memory begins as: mapped over memory that is nobody's file, so that its holes are that.
//!
//! A hole that is read through a mapping of the file becomes pages of the file, which all clones of a template would fill
//! up between them, and which are never large ones.

use std::fs::File;
use std::io;
use std::ops::Range;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap};
use vm_memory::MmapRegion;

use super::PAGE;

/// Smaller holes are not worth a mapping of their own.
const LEAST_HOLE: u64 = 1 << 20;

/// Maps the file from `offset` on privately over `region`, but for its holes.
pub(super) fn lay(region: &MmapRegion, file: &File, offset: u64) -> io::Result<()> {
    let end = offset.saturating_add(region.size() as u64);
    let mut stretch: Option<Range<u64>> = None;
    for data in stretches(file, offset..end)? {
        match &mut stretch {
            Some(stretch) if data.start - stretch.end < LEAST_HOLE => stretch.end = data.end,
            _ => {
                lay_stretch(region, file, offset, stretch.replace(data))?;
            }
        }
    }
    lay_stretch(region, file, offset, stretch)
}

/// Where within a range the file has data, in whole pages.
pub(super) fn stretches(file: &File, range: Range<u64>) -> io::Result<Vec<Range<u64>>> {
    let mut stretches = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let start = match seek(file, SeekFrom::Data(at)) {
            // No more data.
            Err(Errno::NXIO) => break,
            start => start?.min(range.end),
        };
        at = seek(file, SeekFrom::Hole(start))?.min(range.end);
        if start < at {
            stretches.push(start - start % PAGE..at.next_multiple_of(PAGE));
        }
    }
    Ok(stretches)
}

fn lay_stretch(region: &MmapRegion, file: &File, offset: u64, data: Option<Range<u64>>) -> io::Result<()> {
    let Some(data) = data else { return Ok(()) };
    let [place, length] = [data.start - offset, data.end - data.start].map(usize::try_from);
    let (place, length) = (place.map_err(io::Error::other)?, length.map_err(io::Error::other)?);
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
    // SAFETY: the place lies within the region, `stretches` sees to that. Nobody else knows of it yet, and when it is
    // unmapped as a whole this goes with it.
    let mapped = unsafe {
        let place = region.as_ptr().byte_add(place).cast();
        mmap(place, length, ProtFlags::READ | ProtFlags::WRITE, flags, file, data.start)
    };
    mapped.map(drop).map_err(io::Error::from)
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
        // Holes: before all data, just too small, just large enough, and the rest.
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
        assert_eq!(now.map(shows), [0, 2, 0, 0, 0]);
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
