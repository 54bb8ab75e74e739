//! A process as containerd knows it: a container's own, or one executed in it. What state it is in, and its streams.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use containerd_shim_protos::types::task::Status;
use sandbox::{Exit, Streams, TerminalSize};
use tokio::sync::watch;
use tokio::time::timeout;
use ttrpc::Code;

use crate::backend::ProcessBackend;
use crate::failure::Failure;
use crate::stdio::{Ends, Pumps, Stdio};

const SIGKILL: u32 = 9;

/// A shell's exit code for a process that SIGKILL ended: what a VM that goes does to its processes.
const KILLED: u8 = 137;

/// How long what a killed process wrote may find nobody who takes it. Then it is let go, so that the process can end.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Process {
    pub(crate) stdio: Stdio,
    state: watch::Sender<State>,
    running: OnceLock<Running>,
    /// What it was told before there was anything to tell.
    early: Mutex<Early>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Created,
    Running,
    Stopped(Exited),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exited {
    pub(crate) code: u32,
    pub(crate) at: SystemTime,
}

struct Running {
    backend: Arc<dyn ProcessBackend>,
    pumps: Arc<Pumps>,
}

struct Early {
    size: TerminalSize,
    stdin_closed: bool,
}

impl Process {
    pub(crate) fn new(stdio: Stdio, size: TerminalSize) -> Self {
        Self {
            stdio,
            state: watch::Sender::new(State::Created),
            running: OnceLock::new(),
            early: Mutex::new(Early { size, stdin_closed: false }),
        }
    }

    /// Its terminal's first size, and whether its stdin is to be held open.
    pub(crate) fn beginnings(&self) -> (TerminalSize, bool) {
        let early = self.early();
        (early.size, !early.stdin_closed)
    }

    /// The guest has made it: its streams are carried from now on.
    pub(crate) fn made(&self, backend: Arc<dyn ProcessBackend>, ends: Ends, streams: Streams) {
        let pumps = Arc::new(Pumps::start(ends, streams));
        if self.early().stdin_closed {
            pumps.close_stdin();
        }
        // There is nobody who makes it twice.
        let _ = self.running.set(Running { backend, pumps });
    }

    pub(crate) fn state(&self) -> State {
        *self.state.borrow()
    }

    pub(crate) fn status(&self) -> Status {
        match self.state() {
            State::Created => Status::CREATED,
            State::Running => Status::RUNNING,
            State::Stopped(_) => Status::STOPPED,
        }
    }

    pub(crate) fn exited(&self) -> Option<Exited> {
        match self.state() {
            State::Stopped(exited) => Some(exited),
            _ => None,
        }
    }

    pub(crate) fn set_running(&self) {
        self.state.send_if_modified(|state| {
            let created = *state == State::Created;
            if created {
                *state = State::Running;
            }
            created
        });
    }

    /// Whether it was the first to say so: of what is told several times, only one is true.
    pub(crate) fn set_stopped(&self, code: u32) -> Option<Exited> {
        let exited = Exited { code, at: SystemTime::now() };
        let first = self.state.send_if_modified(|state| {
            let first = !matches!(state, State::Stopped(_));
            if first {
                *state = State::Stopped(exited);
            }
            first
        });
        first.then_some(exited)
    }

    /// Waits until it has stopped.
    pub(crate) async fn stopped(&self) -> Exited {
        let mut state = self.state.subscribe();
        loop {
            if let State::Stopped(exited) = *state.borrow_and_update() {
                return exited;
            }
            // The sender is this value's own.
            if state.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Waits until the guest's process has ended, and what it wrote is where it was to go.
    pub(crate) async fn ended(&self) -> Exit {
        let Some(Running { backend, pumps }) = self.running.get() else {
            return std::future::pending().await;
        };
        let exit = backend.wait().await;
        if timeout(PATIENCE, pumps.drained()).await.is_err() {
            pumps.give_up();
            pumps.drained().await;
        }
        exit.unwrap_or(Exit { code: KILLED, out_of_memory: false })
    }

    pub(crate) async fn kill(&self, signal: u32, all: bool) -> Result<(), Failure> {
        if self.exited().is_some() {
            return Err(finished());
        }
        let Some(Running { backend, pumps }) = self.running.get() else {
            return Err(Failure::precondition("process not created"));
        };
        let sent = if all { backend.signal_all(signal).await } else { backend.signal(signal).await };
        match sent {
            // It has ended, alone or with its VM, which is about to be told: until then it takes a signal, as a zombie does.
            Err(failure) if matches!(failure.code, Code::NOT_FOUND | Code::UNAVAILABLE) => return Ok(()),
            sent => sent?,
        }
        if signal == SIGKILL {
            let pumps = pumps.clone();
            tokio::spawn(async move {
                tokio::time::sleep(PATIENCE).await;
                pumps.give_up();
            });
        }
        Ok(())
    }

    pub(crate) async fn resize(&self, size: TerminalSize) -> Result<(), Failure> {
        if !self.stdio.terminal {
            return Ok(());
        }
        if self.exited().is_some() {
            return Err(Failure::precondition("cannot resize a stopped container"));
        }
        match self.running.get() {
            Some(Running { backend, .. }) => backend.resize(size).await,
            None => {
                self.early().size = size;
                Ok(())
            }
        }
    }

    pub(crate) fn close_stdin(&self) {
        self.early().stdin_closed = true;
        if let Some(Running { pumps, .. }) = self.running.get() {
            pumps.close_stdin();
        }
    }

    fn early(&self) -> std::sync::MutexGuard<'_, Early> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In the words by which containerd's clients know it.
fn finished() -> Failure {
    Failure::not_found("process already finished")
}
