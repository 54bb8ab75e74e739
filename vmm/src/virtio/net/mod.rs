//! virtio-net (virtio 1.3 §5.1): frames between the guest's driver and a tap of the host.
//!
//! ```text
//! tap ─ port ─┬─ receive  ── ring ── receive queue ──┐
//!             └─ transmit ── ring ── transmit queue ─┴─ a pair of the driver, of one or more
//!                     worker: epoll over ports, doorbells, a timer for limits, commands
//! ```
//!
//! One thread moves the frames of a device, each by one system call between the tap and guest memory (`pieces`); or the
//! host's kernel does, past that thread, where it is asked to (`bypass`, `vhost`). The tap comes and goes by the [`NetHandle`]: a device without one is a place, takes what its guest sends, and brings nothing.

mod bypass;
#[cfg(test)]
mod bypass_tests;
mod control;
mod driver;
mod features;
mod frame;
mod handle;
#[cfg(test)]
mod hostile_tests;
mod limit;
#[cfg(test)]
mod mock_tap;
mod pair;
#[cfg(test)]
mod pairs_tests;
mod pieces;
#[cfg(test)]
mod place_tests;
mod port;
#[cfg(test)]
mod real_tap_tests;
mod receive;
#[cfg(test)]
mod rig;
mod ring;
mod tap;
#[cfg(test)]
mod tests;
mod transmit;
mod vhost;
mod worker;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;

use vmm_api::EndReason;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::virtio::device::{ActivateError, Activation, Standing, VirtioDevice};
use crate::virtio::queue_thread::ThreadPlan;
pub use bypass::Bypass;
use handle::{Command, CommandSender};
pub use handle::{FarSide, FillError, NetHandle};
pub use tap::{Carrier, Tap, TapError};
pub use vhost::{Vhost, VhostError};
use worker::Worker;

/// virtio 1.3 §5.
const DEVICE_TYPE: u32 = 1;

/// As many as other VMMs give: with buffers of a page the longest frame takes 17 of them.
const QUEUE_SIZE: u16 = 256;
const CONTROL_QUEUE_SIZE: u16 = 64;

/// The most pairs of queues a device may have.
pub const MAX_PAIRS: u8 = 16;

/// What the guest is told where nobody said another, of a place: locally administered. The agent sets the true one.
pub const PLACE_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];

/// The device as its transport sees it. The work is done on a thread of its own.
pub struct Net {
    config: [u8; CONFIG_LENGTH],
    features: u64,
    queue_sizes: Vec<u16>,
    commands: CommandSender,
    thread: Option<JoinHandle<()>>,
}

impl Net {
    /// A place with so many pairs of queues.
    pub fn new(mac: [u8; 6], pairs: u8, plan: ThreadPlan) -> io::Result<(Self, NetHandle)> {
        let (channel, received) = channel();
        let wake = Arc::new(EventFd::new(EFD_NONBLOCK)?);
        let worker = Worker::new(received, Arc::clone(&wake))?;
        let ThreadPlan { name, confine, ending } = plan;
        let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
            let outcome = confine().and_then(|()| {
                worker.run().map_err(|error| EndReason::Internal { message: format!("{name}: {error}") })
            });
            if let Err(reason) = outcome {
                ending.end(reason);
            }
        })?;
        let mut queue_sizes = vec![QUEUE_SIZE; 2 * usize::from(pairs)];
        let mut features = features::ALWAYS;
        if pairs > 1 {
            queue_sizes.push(CONTROL_QUEUE_SIZE);
            features |= features::OF_SEVERAL_PAIRS;
        }
        let commands = CommandSender { channel, wake };
        let handle = NetHandle(commands.clone());
        let net = Self { config: config(mac, pairs), features, queue_sizes, commands, thread: Some(thread) };
        Ok((net, handle))
    }
}

impl VirtioDevice for Net {
    fn device_type(&self) -> u32 {
        DEVICE_TYPE
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (byte, value) in data.iter_mut().zip(self.config.iter().skip(from)) {
            *byte = *value;
        }
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        for index in [0u16, 1] {
            if !matches!(activation.queues.get(usize::from(index)), Some(Some(_))) {
                return Err(ActivateError::MissingQueue(index));
            }
        }
        match self.commands.send(Command::Activate(Box::new(activation))) {
            true => Ok(()),
            false => Err(ActivateError::ThreadGone),
        }
    }

    fn reset(&mut self) {
        // Without an answer the thread is gone, and its hold on guest memory with it.
        self.commands.ask(Command::Reset);
    }

    fn hold(&mut self) -> Option<Standing> {
        self.commands.ask(Command::Hold)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.commands.send(Command::Quit);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// `mac`, `status` and `max_virtqueue_pairs` (virtio 1.3 §5.1.4).
const CONFIG_LENGTH: usize = 10;

fn config(mac: [u8; 6], pairs: u8) -> [u8; CONFIG_LENGTH] {
    let [a, b, c, d, e, f] = mac;
    [a, b, c, d, e, f, 0, 0, pairs, 0]
}
