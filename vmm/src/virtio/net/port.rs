//! The queues of a tap among what the device's thread waits for.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::bypass::Bypass;
use super::handle::FillError;
use super::tap::Carrier;

/// One queue of the tap.
pub(super) struct Port {
    carrier: Box<dyn Carrier>,
    bypass: Option<Box<dyn Bypass>>,
    token: u64,
    /// What is waited for; beside the end of the tap, which always is.
    interest: EventSet,
    /// The kernel calls a queue that is not as it calls one of a tap that is gone: nothing is waited for.
    attached: bool,
}

/// By which port a pair sends, if so many are in use: there may be fewer of them than pairs.
pub(super) fn of_pair(pair: usize, in_use: usize) -> Option<usize> {
    pair.checked_rem(in_use)
}

impl Port {
    pub(super) fn watched(
        carrier: Box<dyn Carrier>,
        bypass: Option<Box<dyn Bypass>>,
        epoll: &Epoll,
        token: u64,
    ) -> io::Result<Self> {
        let port = Self { carrier, bypass, token, interest: EventSet::empty(), attached: true };
        port.control(epoll, ControlOperation::Add)?;
        Ok(port)
    }

    /// Others may hold the same tap open, so closing it would not do.
    pub(super) fn unwatch(&self, epoll: &Epoll) -> io::Result<()> {
        if self.attached { self.control(epoll, ControlOperation::Delete) } else { Ok(()) }
    }

    pub(super) fn carrier(&self) -> &dyn Carrier {
        &*self.carrier
    }

    /// The way past this thread, and where it leads.
    pub(super) fn bypass(&mut self) -> Option<(&mut dyn Bypass, &dyn Carrier)> {
        let Self { carrier, bypass, .. } = self;
        bypass.as_deref_mut().map(|bypass| (bypass as &mut dyn Bypass, &**carrier))
    }

    pub(super) fn set_interest(&mut self, interest: EventSet, epoll: &Epoll) -> io::Result<()> {
        if self.interest == interest || !self.attached {
            return Ok(());
        }
        self.interest = interest;
        self.control(epoll, ControlOperation::Modify)
    }

    pub(super) fn set_attached(&mut self, attached: bool, epoll: &Epoll) -> Result<(), FillError> {
        if self.attached == attached {
            return Ok(());
        }
        if !attached {
            self.control(epoll, ControlOperation::Delete).map_err(FillError::Wait)?;
            self.attached = false;
        }
        self.carrier.set_attached(attached).map_err(FillError::Queue)?;
        if attached {
            self.interest = EventSet::empty();
            self.control(epoll, ControlOperation::Add).map_err(FillError::Wait)?;
            self.attached = true;
        }
        Ok(())
    }

    fn control(&self, epoll: &Epoll, operation: ControlOperation) -> io::Result<()> {
        let descriptor: RawFd = self.carrier.as_fd().as_raw_fd();
        epoll.ctl(operation, descriptor, EpollEvent::new(self.interest, self.token))
    }
}
