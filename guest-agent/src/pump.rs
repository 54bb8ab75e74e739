//! Moves bytes between a stream of the host and the stdio of a process, and end-of-file with them.
//!
//! Each direction is a task with one buffer: what the other side does not take, the process must wait to write,
//! as with a pipe of its own. So it must while the stream is one that the copying of the guest took away.

use std::future::pending;
use std::io;
use std::time::Duration;

use rustix::io::Errno;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::descriptor::{Descriptor, WRITE_LEN};
use crate::line::Line;

/// About as much as a pipe holds.
const BUFFER_LEN: usize = 2 * WRITE_LEN;

/// How long a terminal may stay quiet, after its process has ended, before its output counts as drained. The
/// kernel moves a terminal's output to the master from a work queue, so that "nothing there" may be early.
const TERMINAL_SETTLES: Duration = Duration::from_millis(100);

/// Where a process's output is read from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// End-of-file when the last writer is gone; what was written is there to be read at once.
    Pipe,
    /// EIO when the last process has closed the terminal.
    Terminal,
}

/// Carries the host's bytes to a process's stdin until either side ends.
pub(crate) async fn input(mut line: Line, stdin: &Descriptor) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_LEN];
    loop {
        let read = line.read(&mut buffer).await?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        stdin.write_all(bytes).await?;
    }
}

/// Carries a process's output to the host until the output ends, or the host does not want it any more. Without
/// a line, the output is read and dropped.
///
/// `exited` turns true when the process is gone. Others may still hold its output open then, such as a child it
/// left in the background; so from there on, what is there is carried and no more is waited for.
pub(crate) async fn output(
    source: Source,
    stdout: &Descriptor,
    mut line: Option<Line>,
    mut exited: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_LEN];
    let result = loop {
        let read = tokio::select! {
            biased;
            () = renewed(&mut line) => continue,
            read = stdout.read(&mut buffer) => Some(read),
            () = gone(&mut exited) => None,
        };
        let read = match read {
            Some(read) => read,
            None => drain_step(source, stdout, &mut buffer).await,
        };
        let bytes = match read {
            Ok(0) => break Ok(()),
            // The terminal's last process is gone (tty_ioctl(4) hangup semantics of a master's read).
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => break Ok(()),
            Ok(read) => buffer.get(..read).unwrap_or_default(),
            Err(error) => break Err(error),
        };
        let Some(open) = &mut line else { continue };
        match open.write_all(bytes).await {
            Ok(()) => {}
            // It stays open for as long as its process runs, which would stop once it is full.
            Err(_) if source == Source::Terminal => line = None,
            Err(error) => break Err(error),
        }
    };
    if let Some(line) = line {
        line.end();
    }
    result
}

async fn renewed(line: &mut Option<Line>) {
    match line {
        Some(line) => line.renewed().await,
        None => pending().await,
    }
}

async fn gone(exited: &mut watch::Receiver<bool>) {
    // Nobody left to say so means the same.
    let _ = exited.wait_for(|exited| *exited).await;
}

/// The next bytes of an output whose process is gone; 0 when there are none now.
async fn drain_step(source: Source, stdout: &Descriptor, buffer: &mut [u8]) -> io::Result<usize> {
    match stdout.try_read(buffer) {
        Err(Errno::AGAIN) if source == Source::Terminal => {
            timeout(TERMINAL_SETTLES, stdout.read(buffer)).await.unwrap_or(Ok(0))
        }
        Err(Errno::AGAIN) => Ok(0),
        result => Ok(result?),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;
    use crate::line::Switch;
    use crate::line::tests::{reset, resettable};

    fn stream() -> (UnixStream, Line, Switch) {
        let (host, guest) = UnixStream::pair().unwrap();
        let (line, switch) = Line::new(guest.into()).unwrap();
        (host, line, switch)
    }

    fn pipe() -> (OwnedFd, OwnedFd) {
        pipe_with(PipeFlags::CLOEXEC).unwrap()
    }

    #[tokio::test]
    async fn output_ends_with_the_pipe_and_tells_the_host() {
        let (mut host, line, _switch) = stream();
        let (reader, writer) = pipe();
        let sent: Vec<u8> = (0..1_000_000_u32).map(|i| i.to_le_bytes()[0]).collect();
        let expected = sent.clone();
        let process = std::thread::spawn(move || std::fs::File::from(writer).write_all(&sent));
        let reading = std::thread::spawn(move || {
            let mut received = Vec::new();
            host.read_to_end(&mut received).map(|_| received)
        });
        let (_exited, exited) = watch::channel(false);
        output(Source::Pipe, &Descriptor::new(reader).unwrap(), Some(line), exited).await.unwrap();
        process.join().unwrap().unwrap();
        assert!(reading.join().unwrap().unwrap() == expected);
    }

    #[tokio::test]
    async fn a_child_left_behind_does_not_hold_up_the_end() {
        let (mut host, line, _switch) = stream();
        let (reader, writer) = pipe();
        rustix::io::write(&writer, b"last words").unwrap();
        let (exit, exited) = watch::channel(false);
        exit.send(true).unwrap();
        output(Source::Pipe, &Descriptor::new(reader).unwrap(), Some(line), exited).await.unwrap();
        let mut received = String::new();
        host.read_to_string(&mut received).unwrap();
        assert_eq!(received, "last words");
        drop(writer);
    }

    #[tokio::test]
    async fn a_host_that_stops_listening_closes_the_pipe() {
        let (host, line, _switch) = stream();
        let (reader, writer) = pipe();
        drop(host);
        rustix::io::write(&writer, b"unheard").unwrap();
        let (_exited, exited) = watch::channel(false);
        let reader = Descriptor::new(reader).unwrap();
        assert!(output(Source::Pipe, &reader, Some(line), exited).await.is_err());
    }

    #[tokio::test]
    async fn input_arrives_whole_and_ends_with_the_stream() {
        let (mut host, line, _switch) = stream();
        let (reader, writer) = pipe();
        let sent: Vec<u8> = (0..1_000_000_u32).map(|i| i.to_le_bytes()[0]).collect();
        let expected = sent.clone();
        // The host closes only its half: it may still want the output.
        let typing = std::thread::spawn(move || {
            host.write_all(&sent).and_then(|()| host.shutdown(std::net::Shutdown::Write)).map(|()| host)
        });
        let process = std::thread::spawn(move || {
            let mut received = Vec::new();
            std::fs::File::from(reader).read_to_end(&mut received).map(|_| received)
        });
        let stdin = Descriptor::new(writer).unwrap();
        input(line, &stdin).await.unwrap();
        drop(stdin);
        typing.join().unwrap().unwrap();
        assert!(process.join().unwrap().unwrap() == expected);
    }
    #[tokio::test]
    async fn a_process_outlives_the_stream_of_its_output() {
        let (mut host, guest) = resettable();
        let (line, switch) = Line::new(guest).unwrap();
        let (reader, writer) = pipe();
        let (_exited, exited) = watch::channel(false);
        let reader = Descriptor::new(reader).unwrap();
        let pump = tokio::spawn(async move { output(Source::Pipe, &reader, Some(line), exited).await });
        let mut read = [0; 5];
        rustix::io::write(&writer, b"first").unwrap();
        let host = tokio::task::spawn_blocking(move || host.read_exact(&mut read).map(|()| (host, read)));
        let (host, read) = host.await.unwrap().unwrap();
        assert_eq!(&read, b"first");
        reset(host);
        // Unread by anybody, and more than the pipe and the pump hold.
        let sent: Vec<u8> = (0..300_000_u32).map(|i| i.to_le_bytes()[0]).collect();
        let expected = sent.clone();
        let process = std::thread::spawn(move || std::fs::File::from(writer).write_all(&sent));
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!process.is_finished(), "it waits");
        let (mut host, guest) = UnixStream::pair().unwrap();
        switch.give(Some(guest.into())).unwrap();
        let reading = std::thread::spawn(move || {
            let mut received = Vec::new();
            host.read_to_end(&mut received).map(|_| received)
        });
        pump.await.unwrap().unwrap();
        process.join().unwrap().unwrap();
        assert!(reading.join().unwrap().unwrap() == expected);
    }

    #[tokio::test]
    async fn a_quiet_output_goes_to_the_next_stream() {
        let (mut first, line, switch) = stream();
        let (reader, writer) = pipe();
        let (_exited, exited) = watch::channel(false);
        let reader = Descriptor::new(reader).unwrap();
        let pump = tokio::spawn(async move { output(Source::Pipe, &reader, Some(line), exited).await });
        tokio::task::yield_now().await;
        let (mut second, guest) = UnixStream::pair().unwrap();
        switch.give(Some(guest.into())).unwrap();
        tokio::task::yield_now().await;
        assert_eq!(first.read(&mut [0]).unwrap(), 0, "the old one is let go of");
        rustix::io::write(&writer, b"later").unwrap();
        drop(writer);
        pump.await.unwrap().unwrap();
        let mut received = String::new();
        second.read_to_string(&mut received).unwrap();
        assert_eq!(received, "later");
    }

    #[tokio::test]
    async fn last_words_wait_for_the_next_stream() {
        let (host, guest) = resettable();
        let (line, switch) = Line::new(guest).unwrap();
        reset(host);
        let (reader, writer) = pipe();
        rustix::io::write(&writer, b"last words").unwrap();
        let (_exit, exited) = watch::channel(true);
        let reader = Descriptor::new(reader).unwrap();
        let mut pump = tokio::spawn(async move { output(Source::Pipe, &reader, Some(line), exited).await });
        assert!(timeout(Duration::from_millis(20), &mut pump).await.is_err());
        let (mut host, guest) = UnixStream::pair().unwrap();
        switch.give(Some(guest.into())).unwrap();
        pump.await.unwrap().unwrap();
        let mut received = String::new();
        host.read_to_string(&mut received).unwrap();
        assert_eq!(received, "last words");
    }

    #[tokio::test]
    async fn input_goes_on_with_the_next_stream() {
        let (mut host, guest) = resettable();
        let (line, switch) = Line::new(guest).unwrap();
        let (reader, writer) = pipe();
        let stdin = Descriptor::new(writer).unwrap();
        let pump = tokio::spawn(async move { input(line, &stdin).await });
        host.write_all(b"one ").unwrap();
        let reader = Descriptor::new(reader).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(reader.read(&mut buffer).await.unwrap(), 4);
        reset(host);
        let nothing = timeout(Duration::from_millis(20), reader.read(&mut buffer)).await;
        assert!(nothing.is_err(), "no end-of-file");
        let (mut host, guest) = UnixStream::pair().unwrap();
        switch.give(Some(guest.into())).unwrap();
        host.write_all(b"two").unwrap();
        assert_eq!(reader.read(&mut buffer).await.unwrap(), 3);
        drop(host);
        pump.await.unwrap().unwrap();
        assert_eq!(reader.read(&mut buffer).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_terminal_whose_host_is_gone_is_still_read() {
        let (host, line, _switch) = stream();
        drop(host);
        let (reader, writer) = pipe();
        let process = std::thread::spawn(move || std::fs::File::from(writer).write_all(&[0; 300_000]));
        let (_exited, exited) = watch::channel(false);
        output(Source::Terminal, &Descriptor::new(reader).unwrap(), Some(line), exited).await.unwrap();
        process.join().unwrap().unwrap();
    }
}
