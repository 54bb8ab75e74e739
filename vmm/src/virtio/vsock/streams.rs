//! The control side of vsock: who takes the streams, and how connections are asked for.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use vmm_api::RequestId;
use vmm_sys_util::eventfd::EventFd;

use crate::virtio::device::{Activation, Standing};

/// Takes the supervisor's ends of streams. Called on the vsock device's thread, which waits meanwhile.
pub trait StreamSink: Send + Sync {
    /// The guest opened a stream to a port that was listened on.
    fn incoming(&self, port: u32, stream: OwnedFd);
    /// The end of what [`VsockHandle::connect`] began; once for each request.
    fn connected(&self, request: RequestId, result: Result<OwnedFd, ConnectError>);
}

/// Why the guest's port could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot connect to the guest's vsock port {port}: the guest has not started its vsock driver")]
    NoDriver { port: u32 },
    #[error("cannot connect to the guest's vsock port {port}: nobody there listens on it")]
    Refused { port: u32 },
    #[error("cannot connect to the guest's vsock port {port}: no answer within {seconds} s")]
    Timeout { port: u32, seconds: u64 },
    #[error("cannot connect to the guest's vsock port {port}: its vsock device was reset")]
    Reset { port: u32 },
    #[error("cannot connect to the guest's vsock port {port}: {limit} streams are open, which is the most")]
    TooManyStreams { port: u32, limit: usize },
    #[error("cannot connect to the guest's vsock port {port}: cannot make a socket pair")]
    Socket {
        port: u32,
        #[source]
        source: std::io::Error,
    },
}

/// Asks the device for streams, from any thread.
#[derive(Clone)]
pub struct VsockHandle {
    pub(super) commands: CommandSender,
    pub(super) announced: AnnouncedPorts,
}

impl VsockHandle {
    /// Opens a stream to a port the guest listens on; the sink's `connected` brings the outcome.
    pub fn connect(&self, request: RequestId, port: u32) {
        self.commands.send(Command::Connect { request, port });
    }

    /// Lets the guest open streams to this port, from now on.
    pub fn listen(&self, port: u32) {
        self.announced.insert(port);
    }
}

/// The host's ports the guest may connect to.
#[derive(Clone, Default)]
pub(super) struct AnnouncedPorts(Arc<Mutex<BTreeSet<u32>>>);

impl AnnouncedPorts {
    fn insert(&self, port: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(port);
    }

    pub(super) fn contains(&self, port: u32) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&port)
    }
}

/// What other threads tell the device's thread.
pub(super) enum Command {
    Activate(Box<Activation>),
    /// Let go of queues and guest memory, then answer.
    Reset(Sender<()>),
    Hold(Sender<Standing>),
    Connect {
        request: RequestId,
        port: u32,
    },
    Quit,
}

/// Sends a command and wakes the device's thread.
#[derive(Clone)]
pub(super) struct CommandSender {
    pub(super) channel: Sender<Command>,
    pub(super) event: Arc<EventFd>,
}

impl CommandSender {
    /// Whether the thread is there to hear it.
    pub(super) fn send(&self, command: Command) -> bool {
        self.channel.send(command).is_ok() && self.event.write(1).is_ok()
    }
}
