//! How the rest of the VMM speaks to the device's thread.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use vmm_api::RateLimit;
use vmm_sys_util::eventfd::EventFd;

use super::bypass::Bypass;
use super::tap::Carrier;
use crate::virtio::device::{Activation, Standing};

/// What the device's far side is: the queues of a tap, and what may go through them.
pub struct FarSide {
    pub carriers: Vec<Box<dyn Carrier>>,
    /// For each carrier a way past the device's thread, or none for any. Where there are limits it is not taken.
    pub bypasses: Vec<Box<dyn Bypass>>,
    /// Of what the guest sends.
    pub transmit: Option<RateLimit>,
    /// Of what the guest receives.
    pub receive: Option<RateLimit>,
}

#[derive(Debug, thiserror::Error)]
pub enum FillError {
    #[error("the tap does not leave to the guest what the guest's driver takes")]
    Offload(#[source] io::Error),
    #[error("one of the tap's queues cannot be attached or detached")]
    Queue(#[source] io::Error),
    #[error("the device's thread cannot wait for the tap")]
    Wait(#[source] io::Error),
    #[error("the device's thread is gone")]
    ThreadGone,
}

pub(super) enum Command {
    Activate(Box<Activation>),
    /// Lets go of the queues and of guest memory, then answers.
    Reset(Sender<()>),
    Hold(Sender<Standing>),
    Fill(FarSide, Sender<Result<(), FillError>>),
    /// Lets go of the tap, then answers.
    Empty(Sender<()>),
    Quit,
}

#[derive(Clone)]
pub(super) struct CommandSender {
    pub(super) channel: Sender<Command>,
    pub(super) wake: Arc<EventFd>,
}

impl CommandSender {
    /// Tells whether the thread is there to hear it.
    pub(super) fn send(&self, command: Command) -> bool {
        self.channel.send(command).is_ok() && self.wake.write(1).is_ok()
    }

    /// The thread's answer; `None` if it is gone.
    pub(super) fn ask<T>(&self, command: impl FnOnce(Sender<T>) -> Command) -> Option<T> {
        let (answer, wait) = channel();
        if self.send(command(answer)) { wait.recv().ok() } else { None }
    }
}

/// Gives the device its far side, and takes it away.
pub struct NetHandle(pub(super) CommandSender);

impl NetHandle {
    pub fn fill(&self, far_side: FarSide) -> Result<(), FillError> {
        self.0.ask(|answer| Command::Fill(far_side, answer)).unwrap_or(Err(FillError::ThreadGone))
    }

    /// When this returns the tap is closed.
    pub fn empty(&self) {
        self.0.ask(Command::Empty);
    }
}
