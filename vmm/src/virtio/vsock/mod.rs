//! virtio-vsock (virtio 1.3 §5.10): byte streams between guest and supervisor.
//!
//! The device ends in this process. Each stream is one end of a UNIX socket pair, whose other end goes to
//! the supervisor through a [`StreamSink`]. One thread serves all streams:
//!
//! ```text
//! supervisor ── socket ── connection ── muxer ── virtqueues ── guest's socket
//!                             worker: epoll over sockets, doorbells, commands
//! ```

mod connection;
mod credit;
mod muxer;
mod packet;
mod streams;
mod worker;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;

use vmm_api::{EndReason, GUEST_CID};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::ending::Ending;
use crate::virtio::device::{ActivateError, Activation, Standing, VirtioDevice};
use streams::{AnnouncedPorts, Command, CommandSender};
pub use streams::{ConnectError, StreamSink, VsockHandle};
use worker::Worker;

/// virtio 1.3 §5.
const DEVICE_TYPE: u32 = 19;

/// virtio 1.3 §5.10.3: stream sockets are supported.
const F_STREAM: u64 = 1 << 0;

/// virtio 1.3 §5.10.2.
const QUEUE_RX: usize = 0;
const QUEUE_TX: usize = 1;
const QUEUE_EVENT: usize = 2;

/// Receive, transmit, event. Linux keeps the whole receive queue filled, with 4 KiB for each descriptor.
const QUEUE_SIZES: [u16; 3] = [128, 128, 16];

/// The device as its transport sees it. The work is done on a thread of its own.
pub struct Vsock {
    commands: CommandSender,
    thread: Option<JoinHandle<()>>,
}

impl Vsock {
    /// Starts the device's thread, whose first act is to `confine` itself. When the thread cannot go on, it
    /// ends the VM.
    pub fn new(
        sink: Arc<dyn StreamSink>,
        ending: Arc<Ending>,
        confine: fn() -> Result<(), EndReason>,
    ) -> io::Result<(Self, VsockHandle)> {
        let (channel, received) = channel();
        let commands = CommandSender { channel, event: Arc::new(EventFd::new(EFD_NONBLOCK)?) };
        let announced = AnnouncedPorts::default();
        let worker = Worker::new(received, Arc::clone(&commands.event), sink, announced.clone())?;
        let thread = std::thread::Builder::new().name("vsock".to_owned()).spawn(move || {
            let outcome = confine().and_then(|()| {
                worker.run().map_err(|error| EndReason::Internal { message: format!("vsock: {error}") })
            });
            if let Err(reason) = outcome {
                ending.end(reason);
            }
        })?;
        let handle = VsockHandle { commands: commands.clone(), announced };
        Ok((Self { commands, thread: Some(thread) }, handle))
    }
}

impl VirtioDevice for Vsock {
    fn device_type(&self) -> u32 {
        DEVICE_TYPE
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        F_STREAM
    }

    /// virtio 1.3 §5.10.4: the guest's address.
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let cid = GUEST_CID.to_le_bytes();
        data.fill(0);
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (byte, value) in data.iter_mut().zip(cid.iter().skip(from)) {
            *byte = *value;
        }
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        for index in [QUEUE_RX, QUEUE_TX] {
            if !matches!(activation.queues.get(index), Some(Some(_))) {
                return Err(ActivateError::MissingQueue(u16::try_from(index).unwrap_or(u16::MAX)));
            }
        }
        match self.commands.send(Command::Activate(Box::new(activation))) {
            true => Ok(()),
            false => Err(ActivateError::ThreadGone),
        }
    }

    /// All streams end.
    fn reset(&mut self) {
        let (done, wait) = channel();
        // An error means that the thread is gone, and its hold on guest memory with it.
        if self.commands.send(Command::Reset(done)) {
            let _ = wait.recv();
        }
    }

    fn hold(&mut self) -> Option<Standing> {
        let (standing, wait) = channel();
        if self.commands.send(Command::Hold(standing)) { wait.recv().ok() } else { None }
    }
}

impl Drop for Vsock {
    fn drop(&mut self) {
        self.commands.send(Command::Quit);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod mock_guest;
#[cfg(test)]
mod tests;
