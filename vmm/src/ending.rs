//! Why the VM ends: whichever part of it knows first says so, and the control loop hears of it.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;
use vmm_api::EndReason;

pub struct Ending {
    reason: OnceLock<EndReason>,
    event: OwnedFd,
}

impl Ending {
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { reason: OnceLock::new(), event: eventfd(0, EventfdFlags::CLOEXEC)? })
    }

    /// Ends the VM, for this reason unless there is an earlier one.
    pub fn end(&self, reason: EndReason) {
        if self.reason.set(reason).is_ok() {
            // An eventfd's counter takes one more; a write of 1 to it does not fail.
            let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }

    pub fn reason(&self) -> Option<&EndReason> {
        self.reason.get()
    }
}

/// Readable once the VM has to end.
impl AsFd for Ending {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
