//! Carries bytes between our standard streams and a process's.
//!
//! Each direction has a thread of its own: our streams may be anything (files, pipes, terminals), most of
//! which can only be waited for by a blocking call.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, read, write};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::args::DetachKeys;
use crate::key_sequence::KeySequence;

/// Large, for few system calls a megabyte.
const BUFFER: usize = 256 * 1024;

/// The streams of a process while they are carried.
#[derive(Debug)]
pub(crate) struct Carrying {
    outputs: Vec<JoinHandle<()>>,
    news: mpsc::UnboundedReceiver<Carried>,
    /// Keeps the news open when no stream is left to bring any.
    _bring: mpsc::UnboundedSender<Carried>,
}

/// What happened on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carried {
    /// The keys were typed that leave the process to itself.
    Detached,
    /// Nobody reads our stdout, or stderr, any more.
    Unread { stderr: bool },
}

impl Carrying {
    /// The next thing to happen. Cancelled, it loses nothing.
    pub(crate) async fn next(&mut self) -> Carried {
        match self.news.recv().await {
            Some(carried) => carried,
            None => std::future::pending().await,
        }
    }

    /// Waits until all that came is written.
    pub(crate) async fn written(&mut self) {
        for output in &mut self.outputs {
            // A thread has no end but its own.
            let _ = output.await;
        }
    }
}

/// Begins to carry in all directions there are. What is typed is looked through for the keys that detach.
pub(crate) fn carry(streams: sandbox::Streams, keys: Option<DetachKeys>) -> io::Result<Carrying> {
    let (bring, news) = mpsc::unbounded_channel();
    if let Some(stream) = streams.stdin {
        let (stream, bring) = (blocking(stream)?, bring.clone());
        let keys = KeySequence::new(keys.map(|DetachKeys(bytes)| bytes).unwrap_or_default());
        // Not awaited: when the process is gone, what comes on our stdin matters to nobody.
        std::thread::Builder::new().spawn(move || {
            if carry_input(&stream, keys) {
                // Nobody is left to tell when we end.
                let _ = bring.send(Carried::Detached);
            }
        })?;
    }
    let mut outputs = Vec::new();
    for (stream, ours, stderr) in
        [(streams.stdout, rustix::stdio::stdout(), false), (streams.stderr, rustix::stdio::stderr(), true)]
    {
        if let Some(stream) = stream {
            let (stream, bring) = (blocking(stream)?, bring.clone());
            outputs.push(spawn_blocking(move || {
                if !carry_output(&stream, ours) {
                    let _ = bring.send(Carried::Unread { stderr });
                }
            }));
        }
    }
    Ok(Carrying { outputs, news, _bring: bring })
}

fn blocking(stream: tokio::net::UnixStream) -> io::Result<UnixStream> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Whether the keys that detach were typed.
fn carry_input(stream: &UnixStream, mut keys: KeySequence) -> bool {
    let mut buffer = vec![0; BUFFER];
    let mut passed = Vec::new();
    let detached = loop {
        // Either side's end is the end: an unreadable stdin is an empty one, and the process may close its own.
        let read = patiently(rustix::stdio::stdin(), PollFlags::IN, || {
            read(rustix::stdio::stdin(), &mut buffer[..])
        });
        let Ok(length @ 1..) = read else { break false };
        passed.clear();
        let complete = keys.filter(buffer.get(..length).unwrap_or_default(), &mut passed);
        if write_all(stream.as_fd(), &passed).is_err() {
            break false;
        }
        if complete {
            break true;
        }
    };
    if !detached {
        let _ = stream.shutdown(Shutdown::Write);
    }
    detached
}

/// Whether it was read to the end.
fn carry_output(stream: &UnixStream, ours: BorrowedFd<'_>) -> bool {
    let copied = copy(stream.as_fd(), ours).is_ok();
    if !copied {
        // Nobody reads our output: let the process know, as a pipe would.
        let _ = stream.shutdown(Shutdown::Both);
    }
    copied
}

fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = patiently(from, PollFlags::IN, || read(from, &mut buffer[..]))?;
        match buffer.get(..length) {
            Some(bytes @ [_, ..]) => write_all(to, bytes)?,
            _ => return Ok(()),
        }
    }
}

fn write_all(to: BorrowedFd<'_>, mut rest: &[u8]) -> Result<(), Errno> {
    while !rest.is_empty() {
        let written = patiently(to, PollFlags::OUT, || write(to, rest))?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(())
}

/// Repeats a call while it is interrupted or, as others may have made our streams non-blocking, would block.
fn patiently<T>(
    descriptor: BorrowedFd<'_>,
    ready: PollFlags,
    mut call: impl FnMut() -> Result<T, Errno>,
) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => match poll(&mut [PollFd::from_borrowed_fd(descriptor, ready)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            },
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    /// Carries `from` to `to` in the background, closing `to` behind it.
    fn carrying(from: UnixStream, to: UnixStream) -> std::thread::JoinHandle<Result<(), Errno>> {
        std::thread::spawn(move || copy(from.as_fd(), to.as_fd()))
    }

    #[test]
    fn all_arrives_through_streams_that_do_not_block() {
        let (mut source, from) = UnixStream::pair().unwrap();
        let (to, mut sink) = UnixStream::pair().unwrap();
        from.set_nonblocking(true).unwrap();
        to.set_nonblocking(true).unwrap();
        let carrying = carrying(from, to);
        let sent: Vec<u8> = (0..3_000_000u32).map(|i| i.to_le_bytes()[i as usize % 3]).collect();
        let copy_of_sent = sent.clone();
        let writer = std::thread::spawn(move || source.write_all(&copy_of_sent));
        let mut received = Vec::new();
        sink.read_to_end(&mut received).unwrap();
        writer.join().unwrap().unwrap();
        assert_eq!(carrying.join().unwrap(), Ok(()));
        assert!(received == sent);
    }

    #[test]
    fn the_writer_learns_that_nobody_reads_any_more() {
        let (mut source, from) = UnixStream::pair().unwrap();
        let (to, sink) = UnixStream::pair().unwrap();
        drop(sink);
        let carrying = std::thread::spawn(move || carry_output(&from, to.as_fd()));
        source.write_all(b"lost").unwrap();
        carrying.join().unwrap();
        assert_eq!(source.write(b"refused").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
