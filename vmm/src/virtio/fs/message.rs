//! The headers of FUSE messages (Linux include/uapi/linux/fuse.h), as far as the device looks at them.

use vmm_api::MAX_FUSE_MESSAGE;

use crate::virtio::chain::{Buffers, Run};
use crate::virtio::transfer::MOST_PIECES;

/// struct fuse_in_header.
pub(super) const REQUEST_HEADER: usize = 40;

/// struct fuse_out_header.
pub(super) const ANSWER_HEADER: usize = 16;

/// enum fuse_opcode.
const FORGET: u32 = 2;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

/// A request as it lies in guest memory, its header copied out: the guest may change what is there, and what was
/// looked at is what is sent.
pub(super) struct Request<'m> {
    header: [u8; REQUEST_HEADER],
    /// What is behind the header.
    pub(super) body: Run<'m>,
    /// Where the answer goes.
    pub(super) writable: Run<'m>,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// It is sent, and answered by the server.
    Ask,
    /// It is sent, and done with: nobody answers.
    Tell,
    /// It is not sent, and answered with this error.
    Refuse(i32),
}

impl<'m> Request<'m> {
    /// `None` for what has no header, and so could not be answered.
    pub(super) fn of(buffers: Buffers<'m>) -> Option<Self> {
        let (head, body) = buffers.readable.split_at(REQUEST_HEADER as u64)?;
        Some(Self { header: head.copy_out()?, body, writable: buffers.writable })
    }

    pub(super) fn course(&self) -> Course {
        let length = self.body.len() + REQUEST_HEADER as u64;
        let pieces = self.body.slices().len() + 1;
        let fits = length <= MAX_FUSE_MESSAGE as u64
            && pieces <= MOST_PIECES
            && self.writable.slices().len() <= MOST_PIECES;
        match self.opcode() {
            FORGET | BATCH_FORGET if fits => Course::Tell,
            // The server knows requests by other numbers than the guest. One that hears this does not interrupt again.
            INTERRUPT => Course::Refuse(libc::ENOSYS),
            _ if !fits || u64::from(word(&self.header, 0)) != length => Course::Refuse(libc::EIO),
            _ if self.writable.is_empty() => Course::Tell,
            _ if self.writable.len() < ANSWER_HEADER as u64 => Course::Refuse(libc::EIO),
            _ => Course::Ask,
        }
    }

    fn opcode(&self) -> u32 {
        word(&self.header, 4)
    }

    /// By which the guest knows the request.
    pub(super) fn unique(&self) -> u64 {
        long(&self.header, 8)
    }

    /// The header, with another number in it.
    pub(super) fn header_as(&self, unique: u64) -> [u8; REQUEST_HEADER] {
        let mut header = self.header;
        for (byte, value) in header.iter_mut().skip(8).zip(unique.to_ne_bytes()) {
            *byte = value;
        }
        header
    }
}

/// The header of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AnswerHeader {
    pub(super) length: u32,
    pub(super) unique: u64,
}

impl AnswerHeader {
    pub(super) fn of(bytes: &[u8; ANSWER_HEADER]) -> Self {
        Self { length: word(bytes, 0), unique: long(bytes, 8) }
    }
}

/// A whole answer that says nothing but this error.
pub(super) fn failure(unique: u64, error: i32) -> [u8; ANSWER_HEADER] {
    let mut answer = [0; ANSWER_HEADER];
    let length = u32::try_from(ANSWER_HEADER).unwrap_or(u32::MAX);
    let fields = length.to_ne_bytes().into_iter().chain((-error).to_ne_bytes()).chain(unique.to_ne_bytes());
    for (byte, value) in answer.iter_mut().zip(fields) {
        *byte = value;
    }
    answer
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|tail| tail.first_chunk()).copied().map_or(0, u32::from_ne_bytes)
}

fn long(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|tail| tail.first_chunk()).copied().map_or(0, u64::from_ne_bytes)
}
