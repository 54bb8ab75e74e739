//! Frames from the guest to the tap (virtio 1.3 §5.1.6.2).

use std::io::ErrorKind;
use std::time::Instant;

use virtio_queue::{DescriptorChain, Error};

use super::frame::{BATCH, HEADER, MOST};
use super::limit::Limiter;
use super::pieces::Pieces;
use super::ring::Ring;
use super::tap::Carrier;
use crate::memory::Memory;
use crate::virtio::device::VirtioInterrupt;

pub(super) struct Transmitter {
    ring: Ring,
    /// Of the frame that is sent.
    pieces: Pieces,
}

/// Why no more frames were sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// The driver rings for the next one.
    All,
    /// Others have their turn.
    Enough,
    /// The tap takes no more for now.
    Full,
    TooMuch(Instant),
}

impl Transmitter {
    pub(super) fn new(ring: Ring, pieces: Pieces) -> Self {
        Self { ring, pieces }
    }

    pub(super) fn ring(&self) -> &Ring {
        &self.ring
    }

    pub(super) fn progress(&self) -> (u16, u16) {
        self.ring.progress(0)
    }

    pub(super) fn go_on_from(&mut self, next: u16) {
        self.ring.go_on_from(next);
    }

    /// Without a tap frames are taken and go nowhere.
    pub(super) fn serve(
        &mut self,
        tap: Option<&dyn Carrier>,
        limiter: &mut Limiter,
        interrupt: &dyn VirtioInterrupt,
    ) -> Result<Sent, Error> {
        self.ring.quiet()?;
        let outcome = self.send(tap, limiter)?;
        self.ring.publish()?;
        self.ring.signal(interrupt)?;
        Ok(outcome)
    }

    fn send(&mut self, tap: Option<&dyn Carrier>, limiter: &mut Limiter) -> Result<Sent, Error> {
        for _ in 0..BATCH {
            if let Some(until) = limiter.wait(Instant::now) {
                return Ok(Sent::TooMuch(until));
            }
            let Some(chain) = self.ring.next_chain()? else {
                if self.ring.await_doorbell()? {
                    continue;
                }
                return Ok(Sent::All);
            };
            let head = chain.head_index();
            // What is no frame goes nowhere, and back to the driver.
            if let (Some(length), Some(tap)) = (frame_of(chain, &mut self.pieces), tap) {
                match self.pieces.write(tap.as_fd()) {
                    Ok(_) => limiter.take(length - HEADER),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        self.ring.put_back();
                        return Ok(Sent::Full);
                    }
                    // The tap does not take this frame: as a network would, it is lost.
                    Err(_) => {}
                }
            }
            self.ring.add_used(head, 0)?;
        }
        Ok(Sent::Enough)
    }
}

/// The frame a chain names, with its header; says how long both are.
fn frame_of(chain: DescriptorChain<&Memory>, pieces: &mut Pieces) -> Option<usize> {
    pieces.truncate(0);
    let mut length = 0usize;
    for descriptor in chain {
        if descriptor.is_write_only() {
            return None;
        }
        length = length.checked_add(usize::try_from(descriptor.len()).ok()?)?;
        if length > MOST || pieces.push(descriptor.addr(), descriptor.len()).is_err() {
            return None;
        }
    }
    (length > HEADER).then_some(length)
}
