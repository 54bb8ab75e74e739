//! virtio-mem (virtio 1.3 §5.15): how much of the room behind its RAM the guest is to have, and what of it it has taken.
//!
//! The guest takes blocks (plugs them) and gives them back as it is asked to; a block that is given back is the host's
//! again. The room itself is opened by [`open_room`](crate::vm::open_room), before the guest hears of it.

mod blocks;
mod request;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use crate::virtio::device::{ActivateError, Activation, Standing, VirtioDevice, VirtioInterrupt};
use crate::virtio::queue_thread::{QueueThread, ThreadPlan};

use self::blocks::Blocks;
use self::request::Requests;

/// virtio 1.3 §5.
const DEVICE_TYPE: u32 = 24;

pub struct Mem {
    shared: Arc<Shared>,
    thread: QueueThread,
}

/// Asks the guest for what the device tells it.
pub struct MemHandle {
    shared: Arc<Shared>,
}

struct Shared {
    blocks: Mutex<Blocks>,
    /// While there is a driver.
    interrupt: Mutex<Option<Arc<dyn VirtioInterrupt>>>,
    /// Readable once the guest has what it is to have.
    followed: OwnedFd,
}

impl Mem {
    /// The device of a room at these guest-physical addresses, of which the guest is to have nothing yet.
    pub fn new(room: Range<u64>, plan: ThreadPlan) -> io::Result<(Self, MemHandle)> {
        let shared = Arc::new(Shared {
            blocks: Mutex::new(Blocks::new(room)),
            interrupt: Mutex::new(None),
            followed: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        });
        let thread = QueueThread::start(plan, Requests::new(Arc::clone(&shared)))?;
        Ok((Self { shared: Arc::clone(&shared), thread }, MemHandle { shared }))
    }
}

impl VirtioDevice for Mem {
    fn device_type(&self) -> u32 {
        DEVICE_TYPE
    }

    fn queue_sizes(&self) -> &[u16] {
        &[16]
    }

    /// Neither proximity domains, which ACPI has, nor a promise not to touch what is not plugged: it reads as zeroes, or
    /// is no memory at all.
    fn features(&self) -> u64 {
        0
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (byte, value) in data.iter_mut().zip(self.shared.blocks().config().into_iter().skip(from)) {
            *byte = value;
        }
    }

    fn config_generation(&self) -> u8 {
        self.shared.blocks().generation()
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        *self.shared.interrupt() = Some(Arc::clone(&activation.interrupt));
        self.thread.activate(activation)
    }

    /// What is plugged stays so (virtio 1.3 §5.15.5): a driver that finds it so unplugs it or goes on with it.
    fn reset(&mut self) {
        self.shared.interrupt().take();
        self.thread.release();
    }

    fn hold(&mut self) -> Option<Standing> {
        self.thread.hold()
    }
}

impl MemHandle {
    /// Asks the guest to have so many bytes, in whole blocks, of the first `open` bytes of the room.
    pub fn request(&self, bytes: u64, open: u64) {
        let followed = {
            let mut blocks = self.shared.blocks();
            blocks.request(bytes, open);
            blocks.is_as_requested()
        };
        if followed {
            self.shared.tell_followed();
        }
        if let Some(interrupt) = &*self.shared.interrupt() {
            interrupt.config_changed();
        }
    }

    /// Whether the guest has what was last requested. If not, there is nothing to read any more until it has.
    pub fn has_followed(&self) -> bool {
        let _ = rustix::io::read(&self.shared.followed, &mut [0; 8]);
        self.shared.blocks().is_as_requested()
    }

    /// What the guest has taken, in bytes.
    pub fn plugged(&self) -> u64 {
        self.shared.blocks().plugged()
    }

    /// What it is to have, in bytes.
    pub fn requested(&self) -> u64 {
        self.shared.blocks().requested()
    }
}

/// Readable once the guest has what was last requested. As it may take a while to be told, ask
/// [`has_followed`](MemHandle::has_followed).
impl AsFd for MemHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.followed.as_fd()
    }
}

impl Shared {
    fn blocks(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn interrupt(&self) -> MutexGuard<'_, Option<Arc<dyn VirtioInterrupt>>> {
        self.interrupt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_followed(&self) {
        // Should this fail, the counter is full, and it has been told.
        let _ = rustix::io::write(&self.followed, &1u64.to_ne_bytes());
    }
}
