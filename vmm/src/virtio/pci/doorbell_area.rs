//! The addresses by which a driver tells of available buffers (virtio 1.3 §4.1.4.4): one for each queue.

use std::io;
use std::sync::Arc;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::DOORBELL_STRIDE;
use crate::interrupt::Doorbells;

/// The doorbells of one function, attached to the hypervisor while this lives.
pub(super) struct DoorbellArea {
    hypervisor: Arc<dyn Doorbells>,
    base: u64,
    events: Vec<Arc<EventFd>>,
}

impl DoorbellArea {
    pub(super) fn attach(hypervisor: &Arc<dyn Doorbells>, base: u64, queues: u16) -> io::Result<Self> {
        let mut area = Self { hypervisor: Arc::clone(hypervisor), base, events: Vec::new() };
        for queue in 0..queues {
            let event = Arc::new(EventFd::new(EFD_NONBLOCK)?);
            hypervisor.attach(base + DOORBELL_STRIDE * u64::from(queue), &event)?;
            area.events.push(event);
        }
        Ok(area)
    }

    /// By queue.
    pub(super) fn events(&self) -> Vec<Arc<EventFd>> {
        self.events.clone()
    }

    /// A write that no ioeventfd caught.
    pub(super) fn ring(&self, offset: u64) {
        let queue = usize::try_from(offset / DOORBELL_STRIDE).unwrap_or(usize::MAX);
        if let Some(event) = self.events.get(queue) {
            // A full counter is a bell that has yet to be heard.
            let _ = event.write(1);
        }
    }
}

impl Drop for DoorbellArea {
    fn drop(&mut self) {
        for (address, event) in (self.base..).step_by(4).zip(&self.events) {
            // It was attached, and so comes off; where it does not, the address rings an event nobody hears.
            let _ = self.hypervisor.detach(address, event);
        }
    }
}
