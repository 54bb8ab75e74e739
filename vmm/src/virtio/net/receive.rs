//! Frames from the tap to the guest (virtio 1.3 §5.1.6.4).
//!
//! The driver's buffers are looked at ahead, as many as the longest frame may take, so that the kernel puts each frame
//! straight where it belongs. Should the driver have made fewer available, what a frame has more waits here for more of
//! them.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::time::Instant;

use virtio_queue::Error;

use super::features::MRG_RXBUF;
use super::frame::{BATCH, BATCH_BYTES, HEADER, MOST, NUM_BUFFERS};
use super::limit::Limiter;
use super::pieces::{MOST_PIECES, Pieces};
use super::ring::Ring;
use super::tap::Carrier;
use crate::virtio::device::VirtioInterrupt;

/// The most pieces one buffer may be cut into: twice as many are looked at at a time.
const MOST_PIECES_OF_BUFFER: usize = MOST_PIECES / 2;

pub(super) struct Receiver {
    ring: Ring,
    /// Several buffers may take one frame.
    mergeable: bool,
    /// Buffers looked at and not used yet; the pieces are theirs.
    buffers: VecDeque<Buffer>,
    pieces: Pieces,
    /// Of all these buffers.
    bytes: usize,
    /// For what of a frame finds no room in them.
    rest: Box<[u8]>,
    spilt: Option<Spilt>,
}

struct Buffer {
    head: u16,
    pieces: usize,
    bytes: usize,
}

/// A frame that is in guest memory up to `held` bytes; the others are in `rest`.
#[derive(Clone, Copy)]
struct Spilt {
    length: usize,
    held: usize,
}

/// Why no more frames were received.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// The tap has none.
    All,
    /// Others have their turn.
    Enough,
    /// The driver rings when there are buffers.
    NoBuffers,
    TooMuch(Instant),
    /// The tap is no more.
    NoTap,
}

impl Receiver {
    pub(super) fn new(ring: Ring, features: u64, pieces: Pieces) -> Self {
        Self {
            buffers: VecDeque::with_capacity(usize::from(ring.size())),
            ring,
            mergeable: features & MRG_RXBUF != 0,
            pieces,
            bytes: 0,
            rest: vec![0; MOST].into(),
            spilt: None,
        }
    }

    pub(super) fn ring(&self) -> &Ring {
        &self.ring
    }

    pub(super) fn progress(&self) -> (u16, u16) {
        self.ring.progress(u16::try_from(self.buffers.len()).unwrap_or(u16::MAX))
    }

    pub(super) fn serve(
        &mut self,
        tap: &dyn Carrier,
        limiter: &mut Limiter,
        interrupt: &dyn VirtioInterrupt,
    ) -> Result<Received, Error> {
        self.ring.quiet()?;
        let outcome = self.receive(tap, limiter)?;
        self.ring.signal(interrupt)?;
        Ok(outcome)
    }

    /// Leaves the ring as if no buffer had been looked at. Of a frame that is not all there yet, the rest is lost, and with it
    /// the frame.
    pub(super) fn look_away(&mut self) {
        self.ring.rewind(u16::try_from(self.buffers.len()).unwrap_or(u16::MAX));
        self.buffers.clear();
        self.pieces.truncate(0);
        (self.bytes, self.spilt) = (0, None);
    }

    pub(super) fn go_on_from(&mut self, next: u16) {
        self.ring.go_on_from(next);
    }

    fn receive(&mut self, tap: &dyn Carrier, limiter: &mut Limiter) -> Result<Received, Error> {
        let mut bytes = 0;
        for _ in 0..BATCH {
            if let Some(until) = limiter.wait(Instant::now) {
                return Ok(Received::TooMuch(until));
            }
            if !self.look_ahead()? {
                return Ok(Received::NoBuffers);
            }
            let length = match self.spilt.take() {
                Some(Spilt { length, held }) => {
                    self.pieces.put(held, self.rest.get(..length - held).unwrap_or_default());
                    length
                }
                None => match self.pieces.read(tap.as_fd(), &mut self.rest) {
                    Ok(length @ HEADER..=MOST) => length,
                    Ok(0) => return Ok(Received::NoTap),
                    Ok(_) => continue,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Received::All),
                    Err(_) => return Ok(Received::NoTap),
                },
            };
            if length <= self.bytes {
                self.give(length)?;
                limiter.take(length - HEADER);
                bytes += length;
            } else if self.mergeable {
                self.spilt = Some(Spilt { length, held: self.bytes });
            }
            if bytes >= BATCH_BYTES {
                break;
            }
        }
        Ok(Received::Enough)
    }

    /// Looks at buffers until there are enough, or all there are. Tells whether a frame can be received, or the one that is
    /// on its way go on; if not, the driver rings for the next buffer.
    fn look_ahead(&mut self) -> Result<bool, Error> {
        loop {
            while !self.has_enough() && self.look_at_next()? {}
            if self.spilt.is_some_and(|frame| frame.length > self.bytes) && !self.can_have_more() {
                // The driver has given all it can, and the frame is too long for it.
                self.spilt = None;
            }
            match self.spilt {
                Some(Spilt { length, .. }) if length <= self.bytes => return Ok(true),
                None if !self.buffers.is_empty() => return Ok(true),
                _ => {}
            }
            if !self.ring.await_doorbell()? {
                return Ok(false);
            }
        }
    }

    fn has_enough(&self) -> bool {
        match self.mergeable {
            true => self.bytes >= MOST || self.pieces.len() >= MOST_PIECES_OF_BUFFER,
            false => !self.buffers.is_empty(),
        }
    }

    fn can_have_more(&self) -> bool {
        !self.has_enough() && self.buffers.len() < usize::from(self.ring.size())
    }

    /// Tells whether there was one. What is no buffer for frames is the driver's mistake.
    fn look_at_next(&mut self) -> Result<bool, Error> {
        let Some(chain) = self.ring.next_chain()? else { return Ok(false) };
        let (head, before) = (chain.head_index(), self.pieces.len());
        let mut bytes = 0usize;
        for descriptor in chain {
            let is_good = descriptor.is_write_only()
                && self.pieces.len() - before < MOST_PIECES_OF_BUFFER
                && self.pieces.push(descriptor.addr(), descriptor.len()).is_ok();
            if !is_good {
                return Err(Error::InvalidChain);
            }
            bytes = bytes.saturating_add(usize::try_from(descriptor.len()).unwrap_or(usize::MAX));
        }
        if bytes < HEADER {
            return Err(Error::InvalidChain);
        }
        self.buffers.push_back(Buffer { head, pieces: self.pieces.len() - before, bytes });
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(true)
    }

    /// Gives the driver a frame that lies in the first buffers, of which it sees all at once.
    fn give(&mut self, length: usize) -> Result<(), Error> {
        let (mut left, mut count, mut pieces) = (length, 0u16, 0);
        while left > 0 {
            let Some(buffer) = self.buffers.pop_front() else { break };
            let written = left.min(buffer.bytes);
            self.ring.add_used(buffer.head, written)?;
            self.bytes -= buffer.bytes;
            left -= written;
            pieces += buffer.pieces;
            count += 1;
        }
        self.pieces.put(NUM_BUFFERS, &count.to_le_bytes());
        self.pieces.consume(pieces);
        self.ring.publish()
    }
}
