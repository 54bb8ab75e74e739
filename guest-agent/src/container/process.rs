//! One process of a container, as its actor sees it.

use std::os::fd::OwnedFd;

use agent_api::agent::{Exit, TerminalSize};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, pidfd_send_signal};
use tokio::sync::oneshot;

use super::CallError;
use super::stdio::{HostEnds, Switches, Terminal};

type Waiter = oneshot::Sender<Result<Exit, CallError>>;

/// A process that was made, running or ended.
pub(super) struct Process {
    pid: Pid,
    pidfd: OwnedFd,
    /// The container's memory kills when it was made.
    memory_kills: u64,
    terminal: Option<Terminal>,
    switches: Switches,
    waiters: Vec<Waiter>,
    exit: Option<Exit>,
}

impl Process {
    pub(super) fn new(
        pid: Pid,
        pidfd: OwnedFd,
        memory_kills: u64,
        terminal: Option<Terminal>,
        switches: Switches,
    ) -> Self {
        Self { pid, pidfd, memory_kills, terminal, switches, waiters: Vec::new(), exit: None }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// The process as long as its end has not been told.
    pub(super) fn handle(&self) -> Option<(Pid, OwnedFd)> {
        if self.has_ended() {
            return None;
        }
        self.pidfd.try_clone().ok().map(|pidfd| (self.pid, pidfd))
    }

    /// The container's memory kills when it was made.
    pub(super) fn memory_kills(&self) -> u64 {
        self.memory_kills
    }

    pub(super) fn has_ended(&self) -> bool {
        self.exit.is_some()
    }

    /// Notes the exit and tells those who wait.
    pub(super) fn end(&mut self, exit: Exit) {
        for waiter in self.waiters.drain(..) {
            let _ = waiter.send(Ok(exit.clone()));
        }
        self.terminal = None;
        self.switches = Switches::default();
        self.exit = Some(exit);
    }

    /// The container is called otherwise from here on.
    pub(super) fn rename(&mut self, container_id: &str) {
        if let Some(exit) = &mut self.exit {
            container_id.clone_into(&mut exit.container_id);
        }
    }

    pub(super) fn exit(&self) -> Option<&Exit> {
        self.exit.as_ref()
    }

    /// Has its streams go on as these.
    pub(super) fn give_streams(&self, host: HostEnds) -> Result<(), CallError> {
        Ok(self.switches.give(host)?)
    }

    /// Answers at once if it has ended, and when it does otherwise.
    pub(super) fn wait(&mut self, waiter: Waiter) {
        self.waiters.retain(|waiter| !waiter.is_closed());
        match &self.exit {
            Some(exit) => {
                let _ = waiter.send(Ok(exit.clone()));
            }
            None => self.waiters.push(waiter),
        }
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<(), CallError> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) => Ok(()),
            Err(Errno::SRCH) => Err(CallError::NotFound("such process any more".to_owned())),
            Err(error) => Err(CallError::Internal(format!("cannot signal: {error}"))),
        }
    }

    pub(super) fn resize(&self, size: &TerminalSize) -> Result<(), CallError> {
        let Some(terminal) = &self.terminal else {
            return Err(CallError::WrongState("the process has no terminal".to_owned()));
        };
        terminal.resize(size).map_err(|error| CallError::BadArgument(format!("cannot resize: {error}")))
    }
}
