//! A pair of queues, and when each of the two is served next.

use std::io;
use std::time::Instant;

use virtio_queue::Error;

use super::limit::Limiter;
use super::port::Port;
use super::receive::{Received, Receiver};
use super::ring::Ring;
use super::tap::Carrier;
use super::transmit::{Sent, Transmitter};
use crate::memory::Memory;
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
    /// Not by this thread: the frames go past it.
    Bypassed,
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

    /// Has the frames of both queues go past this thread, if the port has a way for them; tells whether they do.
    pub(super) fn bypass(
        &mut self,
        port: &mut Port,
        memory: &Memory,
        features: u64,
        interrupt: &dyn VirtioInterrupt,
    ) -> bool {
        let Some((bypass, carrier)) = port.bypass() else { return false };
        self.receiver.look_away();
        let rings = self.rings().map(|ring| ring.bypassed(interrupt));
        let is_bypassed = bypass.start(carrier.as_fd(), memory, features, rings).is_ok();
        if is_bypassed {
            (self.receive, self.transmit) = (Turn::Bypassed, Turn::Bypassed);
        }
        is_bypassed
    }

    pub(super) fn is_bypassed(&self) -> bool {
        self.receive == Turn::Bypassed
    }

    /// Has them come to this thread again.
    pub(super) fn take_back(&mut self, port: &mut Port) -> io::Result<()> {
        let (bypass, _) = port.bypass().ok_or(io::ErrorKind::NotFound)?;
        let [receive, transmit] = bypass.stop()?;
        self.receiver.go_on_from(receive);
        self.transmitter.go_on_from(transmit);
        self.restart();
        Ok(())
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
