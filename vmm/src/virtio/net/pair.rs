//! A pair of queues, and when each of the two is served next.

use std::time::Instant;

use virtio_queue::Error;

use super::limit::Limiter;
use super::receive::{Received, Receiver};
use super::ring::Ring;
use super::tap::Carrier;
use super::transmit::{Sent, Transmitter};
use crate::virtio::device::VirtioInterrupt;

pub(super) struct Pair {
    pub(super) receiver: Receiver,
    pub(super) transmitter: Transmitter,
    pub(super) receive: Turn,
    pub(super) transmit: Turn,
}

/// When a queue is served next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Now,
    /// When the tap has a frame, or takes one.
    Tap,
    /// When the guest rings.
    Doorbell,
    /// When it is so late.
    Later(Instant),
}

/// Of both directions.
#[derive(Default)]
pub(super) struct Limits {
    pub(super) receive: Limiter,
    pub(super) transmit: Limiter,
}

impl Pair {
    pub(super) fn new(receiver: Receiver, transmitter: Transmitter) -> Self {
        Self { receiver, transmitter, receive: Turn::Now, transmit: Turn::Now }
    }

    pub(super) fn rings(&self) -> [&Ring; 2] {
        [self.receiver.ring(), self.transmitter.ring()]
    }

    /// Serves each queue whose turn it is once; tells whether the tap is there.
    pub(super) fn serve(
        &mut self,
        receive: Option<&dyn Carrier>,
        transmit: Option<&dyn Carrier>,
        limits: &mut Limits,
        interrupt: &dyn VirtioInterrupt,
    ) -> Result<bool, Error> {
        if self.transmit == Turn::Now {
            self.transmit = match self.transmitter.serve(transmit, &mut limits.transmit, interrupt)? {
                Sent::All => Turn::Doorbell,
                Sent::Enough => Turn::Now,
                Sent::Full => Turn::Tap,
                Sent::TooMuch(until) => Turn::Later(until),
            };
        }
        if self.receive == Turn::Now {
            let Some(tap) = receive else {
                self.receive = Turn::Tap;
                return Ok(true);
            };
            self.receive = match self.receiver.serve(tap, &mut limits.receive, interrupt)? {
                Received::All => Turn::Tap,
                Received::Enough => Turn::Now,
                Received::NoBuffers => Turn::Doorbell,
                Received::TooMuch(until) => Turn::Later(until),
                Received::NoTap => return Ok(false),
            };
        }
        Ok(true)
    }

    /// Looks anew at what there is to do.
    pub(super) fn restart(&mut self) {
        (self.receive, self.transmit) = (Turn::Now, Turn::Now);
    }

    /// The time a queue had to wait has gone.
    pub(super) fn ripen(&mut self) {
        for turn in [&mut self.receive, &mut self.transmit] {
            if matches!(turn, Turn::Later(_)) {
                *turn = Turn::Now;
            }
        }
    }
}

impl Turn {
    /// What a queue may be waiting for has happened.
    pub(super) fn hasten(&mut self, happened: Self) {
        if *self == happened {
            *self = Self::Now;
        }
    }
}
