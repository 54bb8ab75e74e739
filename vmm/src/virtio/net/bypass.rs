//! A way for a pair's frames that leaves the device's thread out: between its rings and the carrier goes somebody else, which
//! is the host's kernel ([`Vhost`](super::vhost::Vhost)).

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;

use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::EventFd;

use crate::memory::Memory;

/// Who moves the frames of a pair.
pub trait Bypass: Send {
    /// Moves frames from now on, between the carrier and the ring to receive into, and that to send from. One that fails
    /// has let go of all.
    fn start(
        &mut self,
        carrier: BorrowedFd<'_>,
        memory: &Memory,
        features: u64,
        rings: [BypassedRing; 2],
    ) -> io::Result<()>;

    /// Touches guest memory no more when it returns. Says up to which available buffer of each ring it has got; all before
    /// that are used.
    fn stop(&mut self) -> io::Result<[u16; 2]>;
}

/// A ring that somebody else is to serve.
pub struct BypassedRing {
    pub size: u16,
    /// The available buffer to begin with.
    pub next: u16,
    pub descriptors: GuestAddress,
    pub available: GuestAddress,
    pub used: GuestAddress,
    pub doorbell: RawFd,
    /// Calls the driver. One that wants no calls has none.
    pub call: Option<Arc<EventFd>>,
}
