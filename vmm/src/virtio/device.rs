//! A virtio device as its transport sees it.

use std::sync::Arc;

use virtio_queue::{Queue, QueueT};
use vmm_sys_util::eventfd::EventFd;

use crate::hold::Hold;
use crate::memory::Memory;

/// A device of some type behind the one transport and its one status machine. The transport offers
/// VIRTIO_F_VERSION_1, negotiates, and owns status and queue registers; the device owns what is particular.
///
/// Calls come on a vCPU's thread, which may neither block nor allocate kernel objects: a device that works
/// in the background has its thread before the guest runs, and `activate` only hands it the queues.
pub trait VirtioDevice: Send {
    /// virtio 1.3 §5.
    fn device_type(&self) -> u32;

    /// The most descriptors each queue may have; as many entries as the device has queues.
    fn queue_sizes(&self) -> &[u16];

    /// Feature bits offered beside those of the transport.
    fn features(&self) -> u64;

    /// Fills `data` from the device's configuration space; what lies outside reads as zero.
    fn read_config(&self, offset: u64, data: &mut [u8]);

    /// Another number whenever the configuration has changed (virtio 1.3 §2.5).
    fn config_generation(&self) -> u8 {
        0
    }

    /// DRIVER_OK: the queues are validated and will not change until `reset`.
    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError>;

    /// Back to the state before `activate`: when this returns the device touches guest memory no more.
    fn reset(&mut self);

    /// All that it took from its queues is done, and it touches guest memory no more before its hold is let go; dropping
    /// the hold is a `reset`. `None` if its thread is gone.
    fn hold(&mut self) -> Option<Standing>;
}

/// A device that stands still.
pub struct Standing {
    /// How far it has got in the available and the used ring of each queue, by index; of those it does not use, nothing.
    pub progress: Vec<Option<(u16, u16)>>,
    pub hold: Hold,
}

/// What a device works with once its driver is ready.
pub struct Activation {
    pub memory: Memory,
    /// The features both sides agreed on.
    pub features: u64,
    /// By index; a queue the driver did not enable is `None`.
    pub queues: Vec<Option<ActiveQueue>>,
    pub interrupt: Arc<dyn VirtioInterrupt>,
    /// The driver was another VM's, which was saved: it knows of no device that it lost.
    pub resumed: bool,
}

/// A queue and the event its doorbell rings.
pub struct ActiveQueue {
    pub queue: Queue,
    pub doorbell: Arc<EventFd>,
}

impl ActiveQueue {
    /// How far the device has got in the available and the used ring.
    pub fn progress(&self) -> (u16, u16) {
        (self.queue.next_avail(), self.queue.next_used())
    }
}

/// How a device calls its driver.
pub trait VirtioInterrupt: Send + Sync {
    /// Used buffers wait in this queue.
    fn used(&self, queue: u16);
    /// What raises `used` of this queue by each write to it, for others than this process; `None` where the driver wants no
    /// interrupts.
    fn event(&self, queue: u16) -> Option<Arc<EventFd>>;
    /// The device's configuration is another one.
    fn config_changed(&self);
    /// The device can't go on until the driver resets it (DEVICE_NEEDS_RESET).
    fn needs_reset(&self);
}

#[derive(Debug, thiserror::Error)]
pub enum ActivateError {
    #[error("queue {0} is needed and was not enabled")]
    MissingQueue(u16),
    #[error("the device's thread is gone")]
    ThreadGone,
}
