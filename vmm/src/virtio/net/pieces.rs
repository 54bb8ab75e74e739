//! Guest memory as the kernel takes it for one frame: pieces in a row, and the two calls that move frames between them and
//! a tap without a copy in between.
//!
//! The list is kept from frame to frame, so that moving one allocates nothing.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, VolatileSlice};

use crate::memory::Memory;

/// The kernel takes this many pieces at once (IOV_MAX).
const MOST_AT_ONCE: usize = 1024;

/// The most pieces of guest memory there are at a time: with one of ours behind them the kernel takes them.
pub(super) const MOST_PIECES: usize = MOST_AT_ONCE - 1;

/// Why memory a descriptor names cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unusable;

pub(super) struct Pieces {
    /// What the pieces lie in stays mapped for as long as they are here.
    memory: Memory,
    /// Those before `first` are done with.
    pieces: Vec<libc::iovec>,
    first: usize,
}

// SAFETY: what the pointers lead to belongs to `memory`, which every thread may use.
unsafe impl Send for Pieces {}

impl Pieces {
    pub(super) fn new(memory: Memory) -> Self {
        Self { memory, pieces: Vec::with_capacity(2 * MOST_AT_ONCE), first: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.pieces.len().saturating_sub(self.first)
    }

    /// Appends a range of guest memory.
    pub(super) fn push(&mut self, address: GuestAddress, length: u32) -> Result<(), Unusable> {
        let length = usize::try_from(length).map_err(|_| Unusable)?;
        for slice in GuestMemoryBackend::get_slices(&self.memory, address, length) {
            let slice = slice.map_err(|_| Unusable)?;
            if self.len() == MOST_PIECES {
                return Err(Unusable);
            }
            if !slice.is_empty() {
                let iov_base = slice.ptr_guard_mut().as_ptr().cast();
                self.pieces.push(libc::iovec { iov_base, iov_len: slice.len() });
            }
        }
        Ok(())
    }

    /// Takes off all behind the first `length`.
    pub(super) fn truncate(&mut self, length: usize) {
        self.pieces.truncate(self.first + length);
    }

    /// Takes off the first `count`.
    pub(super) fn consume(&mut self, count: usize) {
        self.first = self.pieces.len().min(self.first + count);
        if self.first >= MOST_AT_ONCE || self.first == self.pieces.len() {
            self.pieces.drain(..self.first);
            self.first = 0;
        }
    }

    /// Reads a frame; what finds no room in guest memory goes to `rest`. Says how long it is.
    pub(super) fn read(&mut self, tap: BorrowedFd<'_>, rest: &mut [u8]) -> io::Result<usize> {
        let length = self.len();
        self.pieces.push(libc::iovec { iov_base: rest.as_mut_ptr().cast(), iov_len: rest.len() });
        let outcome = self.call(|pieces, count| {
            // SAFETY: all pieces but the last lie in guest memory, mapped while `self.memory` lives, which the guest may
            // change at any time without harm: no reference to it exists here. The last is `rest`, borrowed mutably.
            unsafe { libc::readv(tap.as_raw_fd(), pieces, count) }
        });
        self.truncate(length);
        outcome
    }

    /// Writes all pieces as one frame.
    pub(super) fn write(&self, tap: BorrowedFd<'_>) -> io::Result<usize> {
        self.call(|pieces, count| {
            // SAFETY: as in `read`; the kernel only reads the pieces.
            unsafe { libc::writev(tap.as_raw_fd(), pieces, count) }
        })
    }

    fn call(&self, call: impl Fn(*const libc::iovec, libc::c_int) -> isize) -> io::Result<usize> {
        let pieces = self.pieces.get(self.first..).unwrap_or_default();
        let count = libc::c_int::try_from(pieces.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        loop {
            match usize::try_from(call(pieces.as_ptr(), count)) {
                Ok(moved) => return Ok(moved),
                Err(_) => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    error => return Err(error),
                },
            }
        }
    }

    /// Copies bytes in, `offset` bytes behind the start.
    pub(super) fn put(&self, offset: usize, bytes: &[u8]) {
        let (mut offset, mut bytes) = (offset, bytes);
        for piece in self.pieces.iter().skip(self.first) {
            if bytes.is_empty() {
                return;
            }
            // SAFETY: the piece lies in guest memory, mapped while `self.memory` lives, and is used through a volatile
            // slice alone.
            let slice = unsafe { VolatileSlice::new(piece.iov_base.cast(), piece.iov_len) };
            // Beyond the end of this piece nothing is copied.
            let copied = if offset < slice.len() { slice.write(bytes, offset).unwrap_or(0) } else { 0 };
            bytes = bytes.get(copied..).unwrap_or_default();
            offset = offset.saturating_sub(piece.iov_len);
        }
    }
}
