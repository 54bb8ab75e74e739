//! A process in the foreground: our streams, signals and terminal are its own until it ends.

use std::io;

use sandbox::{Exit, GuestError, Process, Stdio, Streams};

use crate::args::{Signal, StdioArgs};
use crate::signals::{self, Signals};
use crate::streams::{self, Outputs};
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
}

/// The streams to ask for.
pub(crate) fn stdio(args: &StdioArgs) -> Result<Stdio, ForegroundError> {
    if args.interactive && args.tty && !terminal::stdin_is_terminal() {
        return Err(ForegroundError::NotATerminal);
    }
    Ok(Stdio {
        stdin: args.interactive,
        stdout: true,
        stderr: !args.tty,
        terminal: args.tty.then(terminal::size),
    })
}

/// A process whose streams are carried.
pub(crate) struct Foreground {
    process: Process,
    outputs: Outputs,
    terminal: bool,
    /// Held until the process's last output is written.
    _raw: Option<RawTerminal>,
    /// What the process gets for SIGTERM.
    stop_signal: Signal,
}

/// How it ended, and what to exit with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub code: u8,
    pub out_of_memory: bool,
}

impl Foreground {
    /// Carries the streams of a process that is about to run.
    pub(crate) fn attach(
        process: Process,
        streams: Streams,
        args: &StdioArgs,
        stop_signal: Signal,
    ) -> Result<Self, ForegroundError> {
        let raw = (args.interactive && args.tty).then(RawTerminal::enter).transpose();
        let raw = raw.map_err(ForegroundError::Terminal)?;
        let outputs = streams::carry(streams).map_err(ForegroundError::Streams)?;
        Ok(Self { process, outputs, terminal: args.tty, _raw: raw, stop_signal })
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Passes signals on until the process has ended and its output is written.
    pub(crate) async fn follow(mut self, signals: &mut Signals) -> Result<Outcome, ForegroundError> {
        let process = self.process.clone();
        let ended = process.wait();
        tokio::pin!(ended);
        let exit: Exit = loop {
            tokio::select! {
                biased;
                exit = &mut ended => break exit?,
                signal = signals.next() => self.pass_on(signal).await,
            }
        };
        tokio::select! {
            () = self.outputs.written() => {}
            // Our reader may never read on; who wants us gone now loses the rest.
            signal = signals.terminating() => return Ok(Outcome { code: signalled(signal), out_of_memory: false }),
        }
        Ok(Outcome { code: exit.code, out_of_memory: exit.out_of_memory })
    }

    async fn pass_on(&self, signal: u32) {
        let passed = match signal {
            signals::WINCH if self.terminal => self.process.resize(terminal::size()).await,
            term if term == Signal::TERM.number() => self.process.signal(self.stop_signal.number()).await,
            other => self.process.signal(other).await,
        };
        // Only a process that is gone cannot be told, and its end is what comes next.
        drop(passed);
    }
}

/// The exit code for an end by a signal.
pub(crate) fn signalled(signal: u32) -> u8 {
    u8::try_from(SIGNALLED + signal).unwrap_or(u8::MAX)
}
