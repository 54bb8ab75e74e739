//! A process in the foreground: our signals and our terminal are its own until it ends.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Child;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{isatty, tcsetwinsize};
use tokio::task::spawn_blocking;

use crate::copy::copy;
use crate::hire::exit_code;
use crate::signals::{self, Signals};
use crate::terminal::{self, RawTerminal};

#[derive(Debug, thiserror::Error)]
pub(crate) enum ForegroundError {
    #[error("cannot get the container's terminal")]
    Console(#[source] io::Error),
    #[error("cannot put the terminal into raw mode")]
    Terminal(#[source] io::Error),
    #[error("cannot take over signals")]
    Signals(#[source] io::Error),
    #[error("cannot wait for the container's supervisor")]
    Wait(#[source] io::Error),
}

/// A terminal of a process, tied to ours.
pub(crate) struct Tied {
    master: OwnedFd,
    /// Given back when all is shown.
    _raw: Option<RawTerminal>,
}

impl Tied {
    /// Takes the terminal that a supervisor sent.
    pub(crate) fn tie(console: &UnixStream) -> Result<Self, ForegroundError> {
        let master = receive(console).map_err(ForegroundError::Console)?;
        fit(&master);
        let raw = isatty(stdin()).then(RawTerminal::enter).transpose().map_err(ForegroundError::Terminal)?;
        Ok(Self { master, _raw: raw })
    }
}

/// Passes signals on to a supervisor until it has ended, and what is typed and shown to and from its terminal. Gives its exit
/// code. Wants a Tokio runtime.
pub(crate) async fn follow(mut supervisor: Child, tied: Option<Tied>) -> Result<u8, ForegroundError> {
    let mut signals = Signals::take().map_err(ForegroundError::Signals)?;
    let shown = tied.as_ref().map(carry).transpose().map_err(ForegroundError::Console)?;
    // Signals find whom they are for even while it is waited for.
    let process = pidfd_open(Pid::from_child(&supervisor), PidfdFlags::empty());
    let process = process.map_err(|error| ForegroundError::Wait(error.into()))?;
    let mut ended = spawn_blocking(move || supervisor.wait());
    let status = loop {
        tokio::select! {
            biased;
            status = &mut ended => break status.map_err(io::Error::other).flatten(),
            signal = signals.next() => match (signal, &tied) {
                (signals::WINCH, Some(tied)) => fit(&tied.master),
                (signal, _) => pass_on(&process, signal),
            }
        }
    };
    let status = status.map_err(ForegroundError::Wait)?;
    if let Some(shown) = shown {
        // A thread has no end but its own.
        let _ = shown.await;
    }
    Ok(exit_code(status))
}

/// Only a process that is gone cannot be told, and its end is what comes next.
fn pass_on(process: &OwnedFd, signal: u32) {
    if let Some(signal) = i32::try_from(signal).ok().and_then(Signal::from_named_raw) {
        let _ = pidfd_send_signal(process, signal);
    }
}

fn fit(master: &OwnedFd) {
    if let Some(size) = terminal::size() {
        // A terminal that is gone has no size.
        let _ = tcsetwinsize(master, size);
    }
}

fn carry(tied: &Tied) -> io::Result<tokio::task::JoinHandle<()>> {
    let (typed, shown) = (tied.master.try_clone()?, tied.master.try_clone()?);
    // Either side's end is the end; a terminal's is told by an error.
    std::thread::Builder::new().spawn(move || copy(stdin(), typed.as_fd()).is_ok())?;
    Ok(spawn_blocking(move || copy(shown.as_fd(), stdout()).unwrap_or(())))
}

/// The descriptor that comes with runc's message.
fn receive(console: &UnixStream) -> io::Result<OwnedFd> {
    let mut name = [0; 64];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    rustix::io::retry_on_intr(|| {
        recvmsg(console, &mut [IoSliceMut::new(&mut name)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })?;
    let received = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    received.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
