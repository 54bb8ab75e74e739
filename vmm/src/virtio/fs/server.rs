//! The file server, as far as the device knows it: a socket on which every packet is a message. What comes from it is
//! not trusted.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::net::{RecvFlags, recv};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::message::{ANSWER_HEADER, AnswerHeader, REQUEST_HEADER};
use crate::virtio::chain::Run;
use crate::virtio::transfer;

pub(super) enum Server {
    /// Requests wait in their queue.
    NotYet,
    There(Connection),
    /// Requests are answered with an error.
    Gone,
}

pub(super) struct Connection {
    socket: OwnedFd,
    /// Its buffer was full when something was last sent.
    full: bool,
    /// The events it is watched for.
    watched: Option<EventSet>,
}

pub(super) enum Sent {
    Done,
    /// Later, when the socket takes something again.
    Full,
    /// This one never.
    Refused,
    Gone,
}

pub(super) enum Waiting {
    /// An answer that has all of its header, and its length.
    Answer(AnswerHeader, usize),
    /// Something that is none.
    Nonsense,
    Nothing,
    Gone,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket, full: false, watched: None }
    }

    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// The socket may take something again.
    pub(super) fn has_room(&mut self) {
        self.full = false;
    }

    pub(super) fn send(&mut self, header: &[u8; REQUEST_HEADER], body: &Run<'_>) -> Sent {
        loop {
            let error = match transfer::send(self.socket.as_fd(), header, body) {
                Ok(_) => return Sent::Done,
                Err(error) => error,
            };
            return match error.raw_os_error() {
                Some(libc::EINTR) => continue,
                Some(libc::EAGAIN) => {
                    self.full = true;
                    Sent::Full
                }
                Some(libc::EMSGSIZE | libc::ENOBUFS | libc::ENOMEM) => Sent::Refused,
                _ => Sent::Gone,
            };
        }
    }

    /// Looks at the next packet, and leaves it where it is.
    pub(super) fn peek(&self) -> Waiting {
        let mut bytes = [0; ANSWER_HEADER];
        let flags = RecvFlags::PEEK | RecvFlags::TRUNC | RecvFlags::DONTWAIT;
        match rustix::io::retry_on_intr(|| recv(&self.socket, &mut bytes, flags)) {
            // No answer is empty: the other end is closed.
            Ok((_, 0)) => Waiting::Gone,
            Ok((_, length)) if length >= ANSWER_HEADER => Waiting::Answer(AnswerHeader::of(&bytes), length),
            Ok(_) => Waiting::Nonsense,
            Err(rustix::io::Errno::AGAIN) => Waiting::Nothing,
            Err(_) => Waiting::Gone,
        }
    }

    /// Takes the packet into guest memory; what does not fit is lost.
    pub(super) fn receive(&self, into: &Run<'_>) -> io::Result<usize> {
        transfer::receive(self.socket.as_fd(), into)
    }

    /// Takes the packet away.
    pub(super) fn discard(&self) {
        // Whatever this says, `peek` will say again.
        let _ = recv(&self.socket, &mut [0; ANSWER_HEADER], RecvFlags::DONTWAIT);
    }

    /// Has `epoll` tell of answers, and of room if there was none.
    pub(super) fn watch(&mut self, epoll: &Epoll, token: u64) -> io::Result<()> {
        let wanted = if self.full { EventSet::IN | EventSet::OUT } else { EventSet::IN };
        let how = match self.watched {
            Some(watched) if watched == wanted => return Ok(()),
            Some(_) => ControlOperation::Modify,
            None => ControlOperation::Add,
        };
        epoll.ctl(how, self.socket.as_raw_fd(), EpollEvent::new(wanted, token))?;
        self.watched = Some(wanted);
        Ok(())
    }

    pub(super) fn unwatch(&mut self, epoll: &Epoll) -> io::Result<()> {
        match self.watched.take() {
            Some(_) => epoll.ctl(ControlOperation::Delete, self.socket.as_raw_fd(), EpollEvent::default()),
            None => Ok(()),
        }
    }
}
