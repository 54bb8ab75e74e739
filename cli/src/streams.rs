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
use tokio::task::{JoinHandle, spawn_blocking};

/// Large, for few system calls a megabyte.
const BUFFER: usize = 256 * 1024;

/// The outputs of a process while they are carried.
#[derive(Debug)]
pub(crate) struct Outputs {
    carrying: Vec<JoinHandle<()>>,
}

impl Outputs {
    /// Waits until all that came is written.
    pub(crate) async fn written(&mut self) {
        for carrying in &mut self.carrying {
            // A thread has no end but its own.
            let _ = carrying.await;
        }
    }
}

/// Begins to carry in all directions there are.
pub(crate) fn carry(streams: sandbox::Streams) -> io::Result<Outputs> {
    if let Some(stream) = streams.stdin {
        let stream = blocking(stream)?;
        // Not awaited: when the process is gone, what comes on our stdin matters to nobody.
        std::thread::Builder::new().spawn(move || carry_input(&stream))?;
    }
    let mut outputs = Outputs { carrying: Vec::new() };
    for (stream, ours) in
        [(streams.stdout, rustix::stdio::stdout()), (streams.stderr, rustix::stdio::stderr())]
    {
        if let Some(stream) = stream {
            let stream = blocking(stream)?;
            outputs.carrying.push(spawn_blocking(move || carry_output(&stream, ours)));
        }
    }
    Ok(outputs)
}

fn blocking(stream: tokio::net::UnixStream) -> io::Result<UnixStream> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn carry_input(stream: &UnixStream) {
    // Either side's end is the end: an unreadable stdin is an empty one, and the process may close its own.
    let _ = copy(rustix::stdio::stdin(), stream.as_fd());
    let _ = stream.shutdown(Shutdown::Write);
}

fn carry_output(stream: &UnixStream, ours: BorrowedFd<'_>) {
    if copy(stream.as_fd(), ours).is_err() {
        // Nobody reads our output: let the process know, as a pipe would.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = patiently(from, PollFlags::IN, || read(from, &mut buffer[..]))?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
        while !rest.is_empty() {
            let written = patiently(to, PollFlags::OUT, || write(to, rest))?;
            rest = rest.get(written..).unwrap_or_default();
        }
    }
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
