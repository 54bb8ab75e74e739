//! The image file, written from front to back in large pieces.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::format::BLOCK;

const BUFFER: usize = 1 << 20;

pub(crate) struct BlockWriter {
    file: File,
    buffer: Vec<u8>,
    /// Bytes that went into the file, without those in the buffer.
    flushed: u64,
    limit: u64,
}

impl BlockWriter {
    /// Writes to an empty file, from its second block on; at most `limit` bytes.
    pub(crate) fn new(file: File, limit: u64) -> Self {
        // Block numbers have 32 bits, and the last one means "none".
        let limit = limit.min(u64::from(u32::MAX - 1) * BLOCK);
        BlockWriter { file, buffer: Vec::with_capacity(BUFFER), flushed: BLOCK, limit }
    }

    /// Where the next byte goes.
    pub(crate) fn position(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    /// The block the next byte goes to.
    pub(crate) fn block(&self) -> u32 {
        // `limit` keeps the position within 32 bits of blocks.
        (self.position() / BLOCK) as u32
    }

    pub(crate) fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.check(data.len() as u64)?;
        if self.buffer.len() + data.len() > BUFFER {
            self.flush()?;
        }
        if data.len() >= BUFFER / 4 && self.buffer.is_empty() {
            self.file.write_all_at(data, self.flushed)?;
            self.flushed += data.len() as u64;
        } else {
            self.buffer.extend_from_slice(data);
        }
        Ok(())
    }

    /// Leaves zeros up to a position further on: a hole if they are many.
    pub(crate) fn skip_to(&mut self, position: u64) -> io::Result<()> {
        let count = position.saturating_sub(self.position());
        self.check(count)?;
        if count < BLOCK && self.buffer.len() + (count as usize) <= BUFFER {
            self.buffer.resize(self.buffer.len() + count as usize, 0);
        } else {
            self.flush()?;
            self.flushed += count;
        }
        Ok(())
    }

    /// Fills the current block with zeros.
    pub(crate) fn pad(&mut self) -> io::Result<()> {
        self.skip_to(self.position().next_multiple_of(BLOCK))
    }

    /// Writes the first block, and what is still in the buffer.
    pub(crate) fn finish(mut self, first: &[u8]) -> io::Result<()> {
        self.flush()?;
        self.file.set_len(self.flushed)?;
        self.file.write_all_at(first, 0)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.flushed)?;
        self.flushed += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn check(&self, more: u64) -> io::Result<()> {
        match self.position().checked_add(more) {
            Some(end) if end <= self.limit => Ok(()),
            _ => Err(io::ErrorKind::QuotaExceeded.into()),
        }
    }
}
