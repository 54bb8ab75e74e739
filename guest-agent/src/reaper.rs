//! Collects the exit of every process of the guest.
//!
//! As PID 1 the agent is the parent of its own helpers, of every container's first process and of all that lost
//! their parent. One task waits for them all; whoever cares for one process says so before it can be collected:
//! right after the spawn, in the same step of the (single-threaded) runtime, or while its parent, a helper,
//! still lives. The exits nobody asked for are orphans', and are dropped.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, WaitOptions, WaitStatus, wait};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Hands out the exit statuses of processes.
#[derive(Clone, Default)]
pub struct Reaper {
    expected: Arc<Mutex<HashMap<Pid, oneshot::Sender<ExitCode>>>>,
}

/// How a process ended, as a shell tells it: its exit code, or 128 + the signal that killed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitCode(pub u32);

impl ExitCode {
    fn of(status: WaitStatus) -> Option<Self> {
        let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal))?;
        u32::try_from(code).ok().map(Self)
    }
}

impl Reaper {
    /// Starts collecting. Must be called inside the runtime, before the first process is spawned.
    pub fn start() -> io::Result<Self> {
        let reaper = Self::default();
        let mut child_ended = signal(SignalKind::child())?;
        let collector = reaper.clone();
        tokio::spawn(async move {
            while child_ended.recv().await.is_some() {
                collector.collect();
            }
        });
        Ok(reaper)
    }

    /// The exit of `pid`, a child of the agent or of a helper that still lives.
    pub fn expect(&self, pid: Pid) -> oneshot::Receiver<ExitCode> {
        let (sender, receiver) = oneshot::channel();
        self.expected.lock().unwrap_or_else(PoisonError::into_inner).insert(pid, sender);
        receiver
    }

    fn collect(&self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let Some(code) = ExitCode::of(status) else { continue };
            let expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid);
            if let Some(sender) = expected {
                // Whoever asked may have given up meanwhile.
                let _ = sender.send(code);
            }
        }
    }
}
