//! A finished image's bytes, read a window at a time: inodes that are looked at together stand together.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::format::BLOCK;

const WINDOW: u64 = 64 << 10;

/// An image file, open for reading.
#[derive(Debug)]
pub(crate) struct Input {
    file: File,
    length: u64,
    window: RefCell<Window>,
}

#[derive(Debug)]
struct Window {
    offset: u64,
    bytes: Vec<u8>,
}

impl Input {
    pub(crate) fn open(path: &Path) -> io::Result<Input> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Input { file, length, window: RefCell::new(Window { offset: 0, bytes: Vec::new() }) })
    }

    /// Its size in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The bytes at an offset; an error of kind `InvalidData` if the file has less.
    pub(crate) fn read(&self, offset: u64, count: u64) -> io::Result<Vec<u8>> {
        let end = offset.checked_add(count).filter(|end| *end <= self.length).ok_or_else(damaged)?;
        if count >= BLOCK {
            return self.read_file(offset, count);
        }
        let mut window = self.window.borrow_mut();
        if offset < window.offset || end > window.offset + window.bytes.len() as u64 {
            let start = offset - offset % BLOCK;
            *window =
                Window { offset: start, bytes: self.read_file(start, WINDOW.min(self.length - start))? };
        }
        let within = (offset - window.offset) as usize;
        window.bytes.get(within..within + count as usize).map(<[u8]>::to_vec).ok_or_else(damaged)
    }

    fn read_file(&self, offset: u64, count: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count as usize];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }
}

/// The error for what no writer of ours has written.
pub(crate) fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is damaged")
}
