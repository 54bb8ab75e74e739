//! Carries bytes between the caller's ends and a process's streams.
//!
//! Each direction has a thread of its own: the caller's ends may be anything (files, pipes, terminals), most of which can
//! only be waited for by a blocking call.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use sandbox::Streams;
use tokio::task::{JoinHandle, spawn_blocking};

use super::ends::Ends;
use crate::copy::copy;

/// The outputs of a process while they are carried.
pub(super) struct Carrying(Vec<JoinHandle<()>>);

impl Carrying {
    /// Waits until all that came is written.
    pub(super) async fn written(self) {
        for output in self.0 {
            // A thread has no end but its own.
            let _ = output.await;
        }
    }
}

/// Begins to carry in all directions there are. Each of the caller's ends is closed with its stream.
pub(super) fn carry(ends: Ends, streams: Streams) -> io::Result<Carrying> {
    if let (Some(from), Some(to)) = (ends.stdin, streams.stdin) {
        let to = blocking(to)?;
        // Not awaited: when the process is gone, what else comes matters to nobody.
        std::thread::Builder::new().spawn(move || carry_input(&from, &to))?;
    }
    let mut outputs = Vec::new();
    for (from, to) in [(streams.stdout, ends.stdout), (streams.stderr, ends.stderr)] {
        if let (Some(from), Some(to)) = (from, to) {
            let from = blocking(from)?;
            outputs.push(spawn_blocking(move || carry_output(&from, &to)));
        }
    }
    Ok(Carrying(outputs))
}

fn blocking(stream: tokio::net::UnixStream) -> io::Result<UnixStream> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn carry_input(from: &OwnedFd, to: &UnixStream) {
    // Either side's end is the end: unreadable input is empty input, and the process may close its own.
    let _ = copy(from.as_fd(), to.as_fd());
    let _ = to.shutdown(Shutdown::Write);
}

fn carry_output(from: &UnixStream, to: &OwnedFd) {
    if copy(from.as_fd(), to.as_fd()).is_err() {
        // Nobody reads it: let the process know, as a pipe would.
        let _ = from.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn ends_travel_both_ways() {
        let (caller_in, stdin) = UnixStream::pair().unwrap();
        let (mut caller_out, stdout) = UnixStream::pair().unwrap();
        let (guest_in, guest_out) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let stream = |stream: UnixStream| {
            stream.set_nonblocking(true).unwrap();
            Some(tokio::net::UnixStream::from_std(stream).unwrap())
        };
        let streams = Streams { stdin: stream(guest_in.0), stdout: stream(guest_out.0), stderr: None };
        let ends = Ends { stdin: Some(stdin.into()), stdout: Some(stdout.into()), ..Ends::default() };
        let carrying = carry(ends, streams).unwrap();
        // The guest gives back all it gets, and its output ends with its input.
        let (mut from, mut to) = (guest_in.1, guest_out.1);
        let guest = std::thread::spawn(move || io::copy(&mut from, &mut to).unwrap());
        let sent = vec![7; 3_000_000];
        let typed = sent.clone();
        let typing = std::thread::spawn(move || {
            let mut caller_in = caller_in;
            caller_in.write_all(&typed).unwrap();
        });
        let shown = spawn_blocking(move || {
            let mut shown = Vec::new();
            caller_out.read_to_end(&mut shown).unwrap();
            shown
        });
        carrying.written().await;
        assert!(shown.await.unwrap() == sent);
        typing.join().unwrap();
        assert_eq!(guest.join().unwrap(), 3_000_000);
    }

    #[test]
    fn the_process_learns_that_nobody_reads_any_more() {
        let (mut source, from) = UnixStream::pair().unwrap();
        let (to, sink) = UnixStream::pair().unwrap();
        drop(sink);
        let carrying = std::thread::spawn(move || carry_output(&from, &to.into()));
        source.write_all(b"lost").unwrap();
        carrying.join().unwrap();
        assert_eq!(source.write(b"refused").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
