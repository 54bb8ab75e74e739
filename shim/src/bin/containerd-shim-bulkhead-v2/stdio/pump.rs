//! Carries bytes between this host's ends and a guest's.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use sandbox::Streams;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::{Ends, Input, Output};

/// Half of what a pipe holds. There are up to three of them for each process that runs.
const BUFFER: usize = 32 * 1024;

/// A process's streams while they are carried.
#[derive(Debug)]
pub(crate) struct Pumps {
    held_stdin: Mutex<Option<pipe::Sender>>,
    input: Option<JoinHandle<()>>,
    outputs: tokio::sync::Mutex<JoinSet<()>>,
    given_up: watch::Sender<bool>,
}

impl Pumps {
    /// Begins to carry.
    pub(crate) fn start(ends: Ends, streams: Streams) -> Self {
        let Ends { stdin, stdout, stderr, logger } = ends;
        let (given_up, _) = watch::channel(false);
        let (input, held) = match (stdin, streams.stdin) {
            (Some(Input { from, held }), Some(to)) => (Some(tokio::spawn(carry_input(from, to))), held),
            _ => (None, None),
        };
        let mut outputs = JoinSet::new();
        for (from, to) in [(streams.stdout, stdout), (streams.stderr, stderr)] {
            if let (Some(from), Some(to)) = (from, to) {
                outputs.spawn(carry_output(from, to, given_up.subscribe()));
            }
        }
        if let Some(logger) = logger {
            logger.forget();
        }
        Self { held_stdin: Mutex::new(held), input, outputs: tokio::sync::Mutex::new(outputs), given_up }
    }

    /// From now on stdin ends when no client writes to it any more.
    pub(crate) fn close_stdin(&self) {
        self.held_stdin.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Waits until all of the process's output is where it was to go; nobody needs its stdin then.
    pub(crate) async fn drained(&self) {
        let mut outputs = self.outputs.lock().await;
        while outputs.join_next().await.is_some() {}
        if let Some(input) = &self.input {
            input.abort();
        }
        self.close_stdin();
    }

    /// Lets go what nobody takes: there is a process to end.
    pub(crate) fn give_up(&self) {
        self.given_up.send_replace(true);
    }
}

impl Drop for Pumps {
    fn drop(&mut self) {
        if let Some(input) = &self.input {
            input.abort();
        }
    }
}

async fn carry_input(mut from: impl AsyncRead + Unpin, mut to: tokio::net::UnixStream) {
    let mut buffer = vec![0; BUFFER];
    // Either side's end is the end.
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if to.write_all(buffer.get(..length).unwrap_or_default()).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

/// To the stream's end: a process is not to stand still because what it writes can go nowhere.
async fn carry_output(mut from: impl AsyncRead + Unpin, mut to: Output, mut given_up: watch::Receiver<bool>) {
    let mut buffer = vec![0; BUFFER];
    let mut lost = false;
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if lost {
            continue;
        }
        let written = tokio::select! {
            biased;
            written = to.write(buffer.get(..length).unwrap_or_default()) => written.is_ok(),
            _ = given_up.wait_for(|given_up| *given_up) => false,
        };
        lost = !written;
    }
}

impl Output {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Pipe(pipe) => pipe.write_all(bytes).await,
            Self::File(file) => file.write_all(bytes),
        }
    }
}
