//! How the device calls its driver: which MSI-X vector stands for what (virtio 1.3 §4.1.5.1.2).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use vmm_sys_util::eventfd::EventFd;

use crate::pci::msix::Msix;
use crate::virtio::device::VirtioInterrupt;

/// VIRTIO_MSI_NO_VECTOR.
pub(super) const NO_VECTOR: u16 = 0xffff;

pub(super) struct Interrupts {
    pub(super) msix: Msix,
    config: AtomicU16,
    queues: Vec<AtomicU16>,
    /// Not part of the status machine's status, for the device's thread sets it, and may do so while the
    /// machine waits for that thread.
    needs_reset: AtomicBool,
}

impl Interrupts {
    pub(super) fn new(queues: u16) -> Self {
        Self {
            msix: Msix::default(),
            config: AtomicU16::new(NO_VECTOR),
            queues: (0..queues).map(|_| AtomicU16::new(NO_VECTOR)).collect(),
            needs_reset: AtomicBool::new(false),
        }
    }

    pub(super) fn reset(&self) {
        for vector in self.queues.iter().chain([&self.config]) {
            vector.store(NO_VECTOR, Ordering::Relaxed);
        }
        self.needs_reset.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_reset_needed(&self) -> bool {
        self.needs_reset.load(Ordering::Relaxed)
    }

    pub(super) fn config_vector(&self) -> u16 {
        self.config.load(Ordering::Relaxed)
    }

    pub(super) fn queue_vector(&self, queue: u16) -> u16 {
        self.queues.get(usize::from(queue)).map_or(NO_VECTOR, |vector| vector.load(Ordering::Relaxed))
    }

    /// A vector that does not exist reads back as none, which is how the driver learns of it.
    pub(super) fn set_config_vector(&self, vector: u16) {
        self.config.store(self.existing(vector), Ordering::Relaxed);
    }

    pub(super) fn set_queue_vector(&self, queue: u16, vector: u16) {
        if let Some(slot) = self.queues.get(usize::from(queue)) {
            slot.store(self.existing(vector), Ordering::Relaxed);
        }
    }

    fn existing(&self, vector: u16) -> u16 {
        if usize::from(vector) <= self.queues.len() { vector } else { NO_VECTOR }
    }
}

impl VirtioInterrupt for Interrupts {
    fn used(&self, queue: u16) {
        self.msix.raise(self.queue_vector(queue));
    }

    fn event(&self, queue: u16) -> Option<Arc<EventFd>> {
        self.msix.event(self.queue_vector(queue))
    }

    fn config_changed(&self) {
        self.msix.raise(self.config_vector());
    }

    fn needs_reset(&self) {
        self.needs_reset.store(true, Ordering::Relaxed);
        self.msix.raise(self.config_vector());
    }
}
