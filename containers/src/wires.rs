//! The sockets between a client and the supervisor that carry a container's streams.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as Blocking;

use sandbox::Streams;
use tokio::net::UnixStream;

use crate::protocol::Wiring;

/// Both ends of each stream of a [`Wiring`].
#[derive(Debug)]
pub(crate) struct Wires {
    pub(crate) theirs: Vec<OwnedFd>,
    pub(crate) ours: Streams,
}

impl Wires {
    /// Wants a Tokio runtime.
    pub(crate) fn new(wiring: &Wiring) -> io::Result<Self> {
        let mut theirs = Vec::new();
        let mut wire = |wanted: bool| {
            if !wanted {
                return Ok(None);
            }
            let (one, other) = Blocking::pair()?;
            theirs.push(OwnedFd::from(other));
            one.set_nonblocking(true)?;
            UnixStream::from_std(one).map(Some)
        };
        let ours = Streams {
            stdin: wire(wiring.stdin)?,
            stdout: wire(wiring.stdout)?,
            stderr: wire(wiring.stderr)?,
        };
        Ok(Self { theirs, ours })
    }

    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.theirs.iter().map(AsFd::as_fd)
    }

    /// The supervisor's ends, as they came with a request. What is missing of them is not attached.
    pub(crate) fn received(wiring: &Wiring, descriptors: Vec<OwnedFd>) -> io::Result<Streams> {
        let mut descriptors = descriptors.into_iter();
        let mut wire = |wanted: bool| match wanted.then(|| descriptors.next()).flatten() {
            Some(descriptor) => {
                let stream = Blocking::from(descriptor);
                stream.set_nonblocking(true)?;
                UnixStream::from_std(stream).map(Some)
            }
            None => Ok(None),
        };
        Ok(Streams { stdin: wire(wiring.stdin)?, stdout: wire(wiring.stdout)?, stderr: wire(wiring.stderr)? })
    }
}
