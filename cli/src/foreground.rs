//! A process in the foreground: our streams, signals and terminal are its own until it ends, or its user leaves.

use std::io;

use containers::{Attachment, Ended, SupervisorError};
use sandbox::{Exit, GuestError, Process, Stdio, Streams};

use crate::args::{DetachKeys, Signal, StdioArgs};
use crate::signals::{self, Signals};
use crate::streams::{self, Carried, Carrying};
use crate::terminal::{self, RawTerminal};

/// Stands for "ended by signal n" in an exit code, as shells have it.
const SIGNALLED: u32 = 128;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ForegroundError {
    #[error("the input device is not a TTY: with -i, -t wants a terminal as standard input")]
    NotATerminal,
    #[error("cannot put the terminal into raw mode")]
    Terminal(#[source] io::Error),
    #[error("cannot carry the command's streams")]
    Streams(#[source] io::Error),
    #[error(transparent)]
    Guest(#[from] GuestError),
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
}

/// The streams to ask for.
pub(crate) fn stdio(args: &StdioArgs) -> Result<Stdio, ForegroundError> {
    check_terminal(args.interactive, args.tty)?;
    Ok(Stdio {
        stdin: args.interactive,
        stdout: true,
        stderr: !args.tty,
        terminal: args.tty.then(terminal::size),
    })
}

pub(crate) fn check_terminal(input: bool, terminal: bool) -> Result<(), ForegroundError> {
    let missing = input && terminal && !terminal::stdin_is_terminal();
    if missing { Err(ForegroundError::NotATerminal) } else { Ok(()) }
}

/// How a process is held.
#[derive(Debug, Clone)]
pub(crate) struct Hold {
    /// The process has a terminal.
    pub terminal: bool,
    pub input: bool,
    /// Signals go on to it.
    pub pass_signals: bool,
    /// What it gets for SIGTERM.
    pub stop_signal: u32,
    /// What leaves it to itself; none for a process that cannot be left.
    pub detach_keys: Option<DetachKeys>,
}

/// Who gets the signals, and tells of the end.
pub(crate) trait Target {
    type Ended;
    async fn signal(&self, signal: u32);
    async fn resize(&self, size: sandbox::TerminalSize);
    /// Nobody reads an output any more, and it is to know.
    async fn unread(&self, stderr: bool);
    /// Cancelled, it loses nothing.
    async fn ended(&self) -> Result<Self::Ended, ForegroundError>;
}

/// A process whose streams are carried.
pub(crate) struct Foreground<T> {
    target: T,
    carrying: Carrying,
    hold: Hold,
    /// Held until the process's last output is written.
    _raw: Option<RawTerminal>,
}

/// What became of it.
pub(crate) enum Followed<E> {
    Ended(E),
    /// It goes on without its user.
    Detached,
    /// It has ended, and we are to as well, whatever output is left.
    Signalled(u32),
}

impl<T: Target> Foreground<T> {
    /// Carries the streams of a process that is about to run.
    pub(crate) fn attach(target: T, streams: Streams, hold: Hold) -> Result<Self, ForegroundError> {
        let raw = (hold.input && hold.terminal).then(RawTerminal::enter).transpose();
        let raw = raw.map_err(ForegroundError::Terminal)?;
        let keys = hold.detach_keys.clone().filter(|_| raw.is_some());
        let carrying = streams::carry(streams, keys).map_err(ForegroundError::Streams)?;
        Ok(Self { target, carrying, hold, _raw: raw })
    }

    /// Passes signals on until the process has ended and its output is written.
    pub(crate) async fn follow(
        mut self,
        signals: &mut Signals,
    ) -> Result<Followed<T::Ended>, ForegroundError> {
        let ended = self.target.ended();
        tokio::pin!(ended);
        let ended = loop {
            tokio::select! {
                biased;
                ended = &mut ended => break ended?,
                signal = signals.next() => pass_on(&self.target, &self.hold, signal).await,
                carried = self.carrying.next() => match carried {
                    Carried::Detached => return Ok(Followed::Detached),
                    Carried::Unread { stderr } => self.target.unread(stderr).await,
                },
            }
        };
        tokio::select! {
            () = self.carrying.written() => Ok(Followed::Ended(ended)),
            // Our reader may never read on; who wants us gone now loses the rest.
            signal = signals.terminating() => Ok(Followed::Signalled(signal)),
        }
    }
}

/// Only a process that is gone cannot be told, and its end is what comes next.
async fn pass_on(target: &impl Target, hold: &Hold, signal: u32) {
    match signal {
        signals::WINCH if hold.terminal => target.resize(terminal::size()).await,
        _ if !hold.pass_signals => {}
        term if term == Signal::TERM.number() => target.signal(hold.stop_signal).await,
        other => target.signal(other).await,
    }
}

impl Target for Process {
    type Ended = Exit;

    async fn signal(&self, signal: u32) {
        drop(Process::signal(self, signal).await);
    }

    async fn resize(&self, size: sandbox::TerminalSize) {
        drop(Process::resize(self, size).await);
    }

    /// The stream itself tells it.
    async fn unread(&self, _: bool) {}

    async fn ended(&self) -> Result<Exit, ForegroundError> {
        Ok(self.wait().await?)
    }
}

impl Target for &Attachment {
    type Ended = Ended;

    async fn signal(&self, signal: u32) {
        drop(Attachment::signal(self, signal).await);
    }

    async fn resize(&self, size: sandbox::TerminalSize) {
        drop(Attachment::resize(self, size).await);
    }

    async fn unread(&self, stderr: bool) {
        drop(Attachment::unread(self, stderr).await);
    }

    async fn ended(&self) -> Result<Ended, ForegroundError> {
        Ok(Attachment::ended(self).await?)
    }
}

/// The exit code for an end by a signal.
pub(crate) fn signalled(signal: u32) -> u8 {
    u8::try_from(SIGNALLED + signal).unwrap_or(u8::MAX)
}
