//! Starts a program with nothing but the descriptors it is handed, in the cgroup it belongs to.
//!
//! The standard library has a process moved to a cgroup once it is there, which waits until no thread of the machine
//! is at an exit or a fork any more: 10 ms and more. clone3(2) has it born there; where that is refused, it moves.
//! [`child`] is what that takes; a process that came of it is a [`Child`], waited for by its pidfd(2): no signal handler,
//! no table of children.

mod child;

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_send_signal, waitid};
use tokio::io::unix::AsyncFd;

use child::Execution;

/// A process. Dropped, it is killed; whoever wants it reaped before this process ends, waits for it first.
#[derive(Debug)]
pub struct Child {
    pid: u32,
    process: AsyncFd<OwnedFd>,
}

/// Starts a program, in the root directory and a process group of its own, without arguments or environment. It has
/// the descriptors, numbered from 0 on, and no other that is marked close-on-exec. `cgroup` is a cgroup's directory;
/// without one it is in this process's. Wants a Tokio runtime.
pub fn spawn(
    program: &Path,
    descriptors: &[BorrowedFd<'_>],
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<Child> {
    let program = CString::new(program.as_os_str().as_bytes())?;
    // None of them may have a number that another is about to get.
    let free = i32::try_from(descriptors.len()).map_err(io::Error::other)?;
    let aside = |descriptor: BorrowedFd<'_>| fcntl_dupfd_cloexec(descriptor, free);
    let handed = descriptors.iter().copied().map(aside).collect::<Result<Vec<_>, _>>()?;
    let (outcome, reporting) = pipe_with(PipeFlags::CLOEXEC)?;
    let report = aside(reporting.as_fd())?;
    let (pid, process) =
        child::clone(cgroup, &Execution { program: &program, handed: &handed, report: &report })?;
    // What is left of the pipe ends with the child, or with its execution.
    drop((reporting, report));
    match failure(outcome)? {
        None => Ok(Child { pid, process: child::watch(process)? }),
        Some(error) => {
            reap(&process)?;
            Err(error)
        }
    }
}

/// Why the program could not be executed: what the child reported, when it did not close the pipe by executing it.
fn failure(outcome: OwnedFd) -> io::Result<Option<io::Error>> {
    let mut told = Vec::new();
    File::from(outcome).read_to_end(&mut told)?;
    let code = <[u8; 4]>::try_from(told).ok().map(i32::from_ne_bytes);
    Ok(code.map(io::Error::from_raw_os_error))
}

impl Child {
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until it has ended. Cancelled, it loses nothing.
    pub async fn ended(&self) -> io::Result<()> {
        self.process.readable().await.map(drop)
    }

    /// Waits until it has ended, and reaps it.
    pub async fn wait(self) -> io::Result<ExitStatus> {
        self.ended().await?;
        reap(self.process.get_ref())
    }

    /// One that has ended is left as it is.
    pub fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(self.process.get_ref(), Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Only one that is gone cannot be killed.
        let _ = self.kill();
    }
}

fn reap(process: &OwnedFd) -> io::Result<ExitStatus> {
    let ended = || waitid(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED);
    let status = rustix::io::retry_on_intr(ended)?.ok_or(Errno::CHILD)?;
    Ok(ExitStatus::from_raw(encoded(&status)))
}

/// As wait(2) has it: a code in the second byte, or a signal in the first.
fn encoded(status: &WaitIdStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code << 8,
        (None, signal) => signal.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
