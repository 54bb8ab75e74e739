//! The host's end of one direction of a process's stdio: one stream after the other, should the guest go on in
//! another VM.
//!
//! A guest that was copied finds every stream it had reset, and the process must not notice: it waits, as it would for
//! a host that is slow, until the copy's host brings another stream or none.
//!
//! A reset cannot be mistaken for a host that closed its end, so nobody waits on a host that is there. The kernel puts
//! a socket into error, out of its connected state, for the transport's reset alone (Linux,
//! net/vmw_vsock/virtio_transport.c, `virtio_vsock_reset_sock`): from there on reads and writes fail with ENOTCONN,
//! and those it interrupts with ECONNRESET (net/vmw_vsock/af_vsock.c). A peer's shutdown, and a peer's RST even with
//! bytes unread, are end-of-file to a reader and EPIPE to a writer (virtio_transport_common.c,
//! `virtio_transport_do_close`).

use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{Shutdown, shutdown};
use tokio::sync::mpsc;

use crate::descriptor::Descriptor;

/// What a pump reads or writes as if it were one stream.
pub(crate) struct Line {
    /// `None`: the host wants no more of it.
    stream: Option<Descriptor>,
    next: mpsc::UnboundedReceiver<Option<Descriptor>>,
}

/// Gives a [`Line`] its next stream. Once it is gone, a reset ends the line.
pub(crate) struct Switch {
    /// Holds as many streams as the guest was copied while the pump could not take them: no bound is needed.
    next: mpsc::UnboundedSender<Option<Descriptor>>,
}

impl Line {
    /// Must be called inside the runtime.
    pub(crate) fn new(stream: OwnedFd) -> io::Result<(Self, Switch)> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let line = Self { stream: Some(Descriptor::new(stream)?), next: receiver };
        Ok((line, Switch { next: sender }))
    }

    /// Waits for bytes; 0 is end-of-file.
    pub(crate) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(stream) = &self.stream else { return Ok(0) };
            let result = tokio::select! {
                biased;
                Some(next) = self.next.recv() => {
                    self.stream = next;
                    continue;
                }
                result = stream.read(buffer) => result,
            };
            match result {
                Err(error) if is_reset(&error) => self.replaced(error).await?,
                result => return result,
            }
        }
    }

    /// Waits until all bytes are taken, each by one stream.
    pub(crate) async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let Some(stream) = &self.stream else { return Err(io::ErrorKind::BrokenPipe.into()) };
            let result = tokio::select! {
                biased;
                Some(next) = self.next.recv() => {
                    self.stream = next;
                    continue;
                }
                result = stream.write(bytes) => result,
            };
            match result {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if is_reset(&error) => self.replaced(error).await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes the next stream when it comes, while there is nothing to write; does not end otherwise.
    pub(crate) async fn renewed(&mut self) {
        match self.next.recv().await {
            Some(next) => self.stream = next,
            None => pending().await,
        }
    }

    /// The host reads end-of-file; that it is gone already is nothing to tell anybody.
    pub(crate) fn end(&self) {
        if let Some(stream) = &self.stream {
            let _ = shutdown(stream, Shutdown::Write);
        }
    }

    /// Waits for the stream that takes the place of the one that was reset.
    async fn replaced(&mut self, reset: io::Error) -> io::Result<()> {
        self.stream = self.next.recv().await.ok_or(reset)?;
        Ok(())
    }
}

impl Switch {
    /// Gives the line its next stream, or says that there is none. A line that has ended closes it.
    pub(crate) fn give(&self, stream: Option<OwnedFd>) -> io::Result<()> {
        let stream = stream.map(Descriptor::new).transpose()?;
        let _ = self.next.send(stream);
        Ok(())
    }
}

fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use rustix::io::Errno;
    use rustix::net::sockopt::set_socket_linger;
    use tokio::time::timeout;

    use super::*;

    /// A stream that the host's end can reset; of TCP, as Unix sockets cannot.
    pub(crate) fn resettable() -> (TcpStream, OwnedFd) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (host, listener.accept().unwrap().0.into())
    }

    /// Ends the stream as a vsock stream ends in a guest that was copied (socket(7), SO_LINGER).
    pub(crate) fn reset(host: TcpStream) {
        set_socket_linger(&host, Some(Duration::ZERO)).unwrap();
    }

    #[test]
    fn both_errors_of_a_reset_vsock_stream_are_known() {
        for (errno, expected) in [(Errno::NOTCONN, true), (Errno::CONNRESET, true), (Errno::PIPE, false)] {
            assert_eq!(is_reset(&errno.into()), expected, "{errno}");
        }
    }

    #[tokio::test]
    async fn a_reader_goes_on_with_the_next_stream() {
        let (host, guest) = resettable();
        let (mut line, switch) = Line::new(guest).unwrap();
        reset(host);
        let mut buffer = [0; 16];
        let waiting = timeout(Duration::from_millis(20), line.read(&mut buffer)).await;
        assert!(waiting.is_err(), "a reset is not the end");
        let (mut host, guest) = UnixStream::pair().unwrap();
        switch.give(Some(guest.into())).unwrap();
        host.write_all(b"again").unwrap();
        assert_eq!(line.read(&mut buffer).await.unwrap(), 5);
        drop(host);
        assert_eq!(line.read(&mut buffer).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn without_a_next_stream_a_reset_is_the_end() {
        let (host, guest) = resettable();
        let (mut line, switch) = Line::new(guest).unwrap();
        reset(host);
        switch.give(None).unwrap();
        assert_eq!(line.read(&mut [0]).await.unwrap(), 0);
        assert!(line.write_all(b"unheard").await.is_err());

        let (host, guest) = resettable();
        let (mut line, _) = Line::new(guest).unwrap();
        reset(host);
        assert!(line.read(&mut [0]).await.is_err());
        assert!(line.write_all(b"unheard").await.is_err());
    }

    #[tokio::test]
    async fn a_line_that_has_ended_closes_what_it_is_given() {
        let (_, guest) = resettable();
        let (line, switch) = Line::new(guest).unwrap();
        drop(line);
        let (mut host, guest) = UnixStream::pair().unwrap();
        switch.give(Some(guest.into())).unwrap();
        assert_eq!(host.read(&mut [0]).unwrap(), 0);
    }

    #[tokio::test]
    async fn a_writer_that_waits_changes_over_without_losing_or_doubling_a_byte() {
        let (mut first, guest) = UnixStream::pair().unwrap();
        let (mut line, switch) = Line::new(guest.into()).unwrap();
        let sent: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let waiting = timeout(Duration::from_millis(20), line.write_all(&sent));
        assert!(waiting.await.is_err(), "nobody reads");
        // What was given up has written its first bytes: find out how many, to go on from there.
        let mut received = vec![0; sent.len()];
        first.set_nonblocking(true).unwrap();
        let mut taken = 0;
        while let Ok(read) = first.read(&mut received[taken..]) {
            taken += read;
        }
        received.truncate(taken);
        first.set_nonblocking(false).unwrap();

        let (mut second, guest) = UnixStream::pair().unwrap();
        let rest = sent[taken..].to_vec();
        let writing = tokio::spawn(async move { line.write_all(&rest).await.map(|()| line.end()) });
        tokio::time::sleep(Duration::from_millis(20)).await;
        switch.give(Some(guest.into())).unwrap();
        let reading = std::thread::spawn(move || {
            first.read_to_end(&mut received).unwrap();
            let of_first = received.len();
            second.read_to_end(&mut received).unwrap();
            (of_first, received)
        });
        writing.await.unwrap().unwrap();
        let (of_first, received) = reading.join().unwrap();
        assert!(received == sent);
        assert!(taken < of_first && of_first < sent.len(), "both took some of what was one write");
    }
}
