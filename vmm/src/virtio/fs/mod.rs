//! virtio-fs (virtio 1.3 §5.11): a tree of the host's files, served by another process.
//!
//! The device passes FUSE messages between the driver's queues and the file server's socket, straight from guest memory
//! and back, and looks at no more of them than their headers:
//!
//! ```text
//! guest's fuse ── virtqueues ── session ── server ── SOCK_SEQPACKET ── bulkhead-file-server
//!                      worker: epoll over doorbells, socket, commands
//! ```
//!
//! It may be there before its server is; requests wait in their queue, then.

mod message;
mod server;
mod session;
#[cfg(test)]
mod tests;
mod worker;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use vmm_api::EndReason;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::virtio::device::{ActivateError, Activation, Standing, VirtioDevice};
use crate::virtio::queue_thread::ThreadPlan;
use worker::{Command, Worker};

/// virtio 1.3 §5.
const DEVICE_TYPE: u32 = 26;

/// virtio 1.3 §5.11.2, without VIRTIO_FS_F_NOTIFICATION: forgotten inodes and the like, and requests.
const QUEUE_SIZES: [u16; 2] = [64, 256];
const QUEUE_REQUEST: u16 = 1;

/// virtio 1.3 §5.11.4: the tag, padded with NUL, and `num_request_queues`.
const TAG_LENGTH: usize = 36;
const CONFIG_LENGTH: usize = TAG_LENGTH + 4;

/// The device as its transport sees it. The work is done on a thread of its own.
pub struct Fs {
    config: [u8; CONFIG_LENGTH],
    commands: CommandSender,
    thread: Option<JoinHandle<()>>,
}

/// Gives the device its server, from any thread.
pub struct FsHandle(CommandSender);

impl FsHandle {
    /// From now on requests are this server's, to which the socket goes.
    pub fn serve(&self, server: OwnedFd) {
        self.0.send(Command::Serve(server));
    }
}

impl Fs {
    /// A device without a server; of the tag, 36 bytes count.
    pub fn new(tag: &str, plan: ThreadPlan) -> io::Result<(Self, FsHandle)> {
        let (channel, received) = channel();
        let commands = CommandSender { channel, event: Arc::new(EventFd::new(EFD_NONBLOCK)?) };
        let worker = Worker::new(received, Arc::clone(&commands.event))?;
        let ThreadPlan { name, confine, ending } = plan;
        let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
            let outcome = confine().and_then(|()| {
                worker.run().map_err(|error| EndReason::Internal { message: format!("{name}: {error}") })
            });
            if let Err(reason) = outcome {
                ending.end(reason);
            }
        })?;
        let handle = FsHandle(commands.clone());
        Ok((Self { config: config(tag), commands, thread: Some(thread) }, handle))
    }
}

impl VirtioDevice for Fs {
    fn device_type(&self) -> u32 {
        DEVICE_TYPE
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        0
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (byte, value) in data.iter_mut().zip(self.config.iter().skip(from)) {
            *byte = *value;
        }
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        if !matches!(activation.queues.get(usize::from(QUEUE_REQUEST)), Some(Some(_))) {
            return Err(ActivateError::MissingQueue(QUEUE_REQUEST));
        }
        match self.commands.send(Command::Activate(Box::new(activation))) {
            true => Ok(()),
            false => Err(ActivateError::ThreadGone),
        }
    }

    /// Requests on their way stay unanswered.
    fn reset(&mut self) {
        let (done, wait) = channel();
        // An error means that the thread is gone, and its hold on guest memory with it.
        if self.commands.send(Command::Reset(done)) {
            let _ = wait.recv();
        }
    }

    /// Requests at the server are not waited for: a VM that has one is not held.
    fn hold(&mut self) -> Option<Standing> {
        let (standing, wait) = channel();
        if self.commands.send(Command::Hold(standing)) { wait.recv().ok() } else { None }
    }
}

impl Drop for Fs {
    fn drop(&mut self) {
        self.commands.send(Command::Quit);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends a command and wakes the device's thread.
#[derive(Clone)]
struct CommandSender {
    channel: Sender<Command>,
    event: Arc<EventFd>,
}

impl CommandSender {
    /// Whether the thread is there to hear it.
    fn send(&self, command: Command) -> bool {
        self.channel.send(command).is_ok() && self.event.write(1).is_ok()
    }
}

fn config(tag: &str) -> [u8; CONFIG_LENGTH] {
    let mut config = [0; CONFIG_LENGTH];
    for (byte, value) in config.iter_mut().zip(tag.bytes().take(TAG_LENGTH)) {
        *byte = value;
    }
    for (byte, value) in config.iter_mut().skip(TAG_LENGTH).zip(1u32.to_le_bytes()) {
        *byte = value;
    }
    config
}
