//! Large pages for a file that guests begin from, so that what they only read, their kernel's text first of all, comes
//! with one fault in 2 MiB.
//!
//! A file system in memory keeps its files in pages of 4 KiB, as a rule; MADV_COLLAPSE (Linux 6.1) makes large ones of
//! them, whatever the rule is.

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::ptr;

use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use super::data;

const LARGE: usize = 2 << 20;

/// What a large page has to have of data: the rest of it becomes zeroes that take memory.
const LEAST_DATA: u64 = LARGE as u64 / 2;

/// How often the kernel is asked for a large page: something may hold one of its small ones for a moment.
const TRIES: usize = 3;

/// Puts the file's data into large pages where it is dense, as far as the host has any.
pub fn make_large(file: &File) -> io::Result<()> {
    let length = file.metadata()?.len();
    let mapping = Mapping::of(file, usize::try_from(length).map_err(io::Error::other)?)?;
    for page in dense(&data::stretches(file, 0..length)?, length) {
        // One that cannot be had stays small.
        let _ = (0..TRIES).any(|_| mapping.collapse(page).is_ok());
    }
    Ok(())
}

/// The numbers of the large pages that would be full enough.
fn dense(stretches: &[Range<u64>], length: u64) -> impl Iterator<Item = usize> {
    let mut data = vec![0; usize::try_from(length).unwrap_or(0) / LARGE];
    for stretch in stretches {
        let mut at = stretch.start;
        while at < stretch.end {
            let page = at / LARGE as u64;
            let end = stretch.end.min((page + 1) * LARGE as u64);
            if let Some(data) = usize::try_from(page).ok().and_then(|page| data.get_mut(page)) {
                *data += end - at;
            }
            at = end;
        }
    }
    data.into_iter().enumerate().filter(|(_, data)| *data >= LEAST_DATA).map(|(page, _)| page)
}

/// A file at a place where its large pages can be some.
struct Mapping {
    reserved: *mut c_void,
    reserved_length: usize,
    start: *mut c_void,
}

impl Mapping {
    fn of(file: &File, length: usize) -> io::Result<Self> {
        let reserved_length = length.checked_add(LARGE).ok_or(io::ErrorKind::InvalidInput)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: the kernel chooses a place where nothing is.
        let reserved =
            unsafe { mmap_anonymous(ptr::null_mut(), reserved_length, ProtFlags::empty(), flags) }?;
        // SAFETY: at most LARGE - 1 bytes further on is still within what was reserved.
        let start = unsafe { reserved.byte_add(reserved.addr().wrapping_neg() % LARGE) };
        let mapping = Self { reserved, reserved_length, start };
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: the place lies in the mapping just made, which nobody knows of yet.
        unsafe { mmap(start, length, ProtFlags::READ | ProtFlags::WRITE, flags, file, 0) }?;
        Ok(mapping)
    }

    fn collapse(&self, page: usize) -> io::Result<()> {
        // SAFETY: the page lies within the file, and so within its mapping. No byte of it changes.
        let result = unsafe { libc::madvise(self.start.byte_add(page * LARGE), LARGE, libc::MADV_COLLAPSE) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and has no references into it.
        let _ = unsafe { munmap(self.reserved, self.reserved_length) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;

    #[test]
    fn large_pages_are_made_where_half_of_one_is_data() {
        let large = LARGE as u64;
        let stretches =
            [0..4096, large / 2..large, large + 4096..large + large / 2, 3 * large - 4096..5 * large];
        assert_eq!(dense(&stretches, 6 * large).collect::<Vec<_>>(), [0, 3, 4]);
    }

    /// Whether pages become large is the host's matter.
    #[test]
    fn the_file_is_what_it_was() {
        let file = File::from(memfd_create("memory", MemfdFlags::CLOEXEC).unwrap());
        file.set_len(6 << 20).unwrap();
        file.write_all_at(&[7; 3 << 19], 2 << 20).unwrap();
        let _ = make_large(&file);
        let mut content = vec![0; 6 << 20];
        file.read_exact_at(&mut content, 0).unwrap();
        let expected = |at: usize| if (2 << 20..7 << 19).contains(&at) { 7 } else { 0 };
        assert!(content.iter().enumerate().all(|(at, byte)| *byte == expected(at)));
        assert!(file.metadata().unwrap().blocks() * 512 <= 2 << 20);
    }
}
