//! One stream: what the guest said of it, what the guest is to be told, and the socket at its host end.

use std::collections::VecDeque;
use std::io;
use std::net::Shutdown as Direction;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::net::{RecvFlags, SendFlags};

use super::credit::{BUF_ALLOC, Credit};
use super::packet::{Header, Ports, Shutdown, op};
use crate::virtio::chain::Run;
use crate::virtio::transfer;

/// Where in its life a connection is (virtio 1.3 §5.10.6.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The host asks; REQUEST is sent or to be sent.
    Requested {
        sent: bool,
    },
    /// The guest asked; RESPONSE is to be sent.
    Accepted,
    Established,
}

/// The guest broke the rules, or what it sent cannot be taken: the connection is to be reset.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Violation;

/// What the connection puts into a packet of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) op: u16,
    pub(super) flags: u32,
    pub(super) len: u32,
    pub(super) fwd_cnt: u32,
}

pub(super) struct Connection {
    pub(super) ports: Ports,
    socket: UnixStream,
    phase: Phase,
    credit: Credit,
    /// Bytes the guest was promised room for and the socket did not take yet; at most [`BUF_ALLOC`].
    backlog: VecDeque<u8>,
    /// Whether the socket may have bytes, and room: epoll's edges set them, EAGAIN clears them.
    readable: bool,
    writable: bool,
    /// What the guest has ended.
    guest: Shutdown,
    /// The host has been told of the end of what the guest sends. Once, for it shows at our end of the socket, too.
    ended: bool,
    /// What the host has ended, and how much of that the guest knows.
    host: Shutdown,
    told: Shutdown,
    /// The guest asked how much room there is.
    credit_wanted: bool,
    /// The guest was asked for room and has shown none since.
    credit_asked: bool,
    /// Whether the connection waits for its turn to send; kept by the muxer.
    pub(super) queued: bool,
}

impl Connection {
    /// A connection the host asks for.
    pub(super) fn requested(ports: Ports, socket: UnixStream) -> Self {
        Self::new(ports, socket, Phase::Requested { sent: false })
    }

    /// A connection the guest asked for with this packet.
    pub(super) fn accepted(request: &Header, socket: UnixStream) -> Self {
        let mut connection = Self::new(request.ports(), socket, Phase::Accepted);
        connection.credit.hear(request);
        connection
    }

    fn new(ports: Ports, socket: UnixStream, phase: Phase) -> Self {
        Self {
            ports,
            socket,
            phase,
            credit: Credit::default(),
            backlog: VecDeque::new(),
            readable: false,
            writable: true,
            guest: Shutdown::default(),
            ended: false,
            host: Shutdown::default(),
            told: Shutdown::default(),
            credit_wanted: false,
            credit_asked: false,
            queued: false,
        }
    }

    pub(super) fn is_requested(&self) -> bool {
        matches!(self.phase, Phase::Requested { .. })
    }

    /// The guest accepted what the host asked for.
    pub(super) fn establish(&mut self) -> Result<(), Violation> {
        match self.phase {
            Phase::Requested { sent: true } => {
                self.phase = Phase::Established;
                Ok(())
            }
            _ => Err(Violation),
        }
    }

    /// What every packet of the guest tells.
    pub(super) fn hear(&mut self, header: &Header) {
        self.credit.hear(header);
        if self.credit.room() > 0 {
            self.credit_asked = false;
        }
    }

    /// Takes a payload of `length` bytes: into the socket as far as it goes, the rest into the backlog.
    pub(super) fn take_payload(&mut self, payload: &Run<'_>, length: u32) -> Result<(), Violation> {
        if self.is_requested() || self.guest.send {
            return Err(Violation);
        }
        let (payload, _) = payload.split_at(length.into()).ok_or(Violation)?;
        self.credit.receive(length).map_err(|_| Violation)?;
        let mut sent = 0;
        if self.backlog.is_empty() && self.writable && !self.host.receive && length > 0 {
            sent = self.after_send(transfer::send(self.socket.as_fd(), &[], &payload));
        }
        self.keep(&payload, sent);
        self.flush();
        Ok(())
    }

    /// Puts what is behind the first `sent` bytes into the backlog.
    fn keep(&mut self, payload: &Run<'_>, mut sent: usize) {
        let mut chunk = [0; 4096];
        for slice in payload.slices() {
            let skipped = sent.min(slice.len());
            sent -= skipped;
            let mut rest = slice.offset(skipped).ok();
            while let Some(slice) = rest.filter(|slice| !slice.is_empty()) {
                let copied = slice.copy_to(&mut chunk);
                self.backlog.extend(chunk.get(..copied).unwrap_or_default());
                rest = slice.offset(copied).ok();
            }
        }
    }

    /// Writes the backlog as far as the socket takes it.
    pub(super) fn flush(&mut self) {
        while self.writable && !self.backlog.is_empty() && !self.host.receive {
            let (front, _) = self.backlog.as_slices();
            let result = rustix::net::send(&self.socket, front, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
            let sent = self.after_send(result.map_err(io::Error::from));
            self.backlog.drain(..sent);
        }
        if self.host.receive {
            self.credit.forward(u32::try_from(self.backlog.len()).unwrap_or(BUF_ALLOC));
            self.backlog.clear();
        }
        if self.backlog.is_empty() {
            self.backlog.shrink_to_fit();
            if self.guest.send && !self.ended {
                self.ended = true;
                // Fails only where the other end is gone, and then nobody is there to be told.
                let _ = self.socket.shutdown(Direction::Write);
            }
        }
    }

    /// Accounts for a write to the socket: how many bytes it took.
    fn after_send(&mut self, result: io::Result<usize>) -> usize {
        match result {
            Ok(sent) => {
                self.credit.forward(u32::try_from(sent).unwrap_or(BUF_ALLOC));
                return sent;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
            // The host reads no more.
            Err(_) => self.host.receive = true,
        }
        0
    }

    /// The guest asks how much room there is.
    pub(super) fn want_credit(&mut self) {
        self.credit_wanted = true;
    }

    /// The guest ends directions. Tells whether that ends the connection.
    pub(super) fn shut_down(&mut self, ended: Shutdown) -> Result<bool, Violation> {
        if self.is_requested() {
            return Err(Violation);
        }
        self.guest = self.guest.and(ended);
        if self.guest.receive {
            let _ = self.socket.shutdown(Direction::Read);
        }
        self.flush();
        Ok(self.guest == Shutdown::BOTH)
    }

    /// The guest is done with this connection in whatever way: only the backlog is still delivered.
    pub(super) fn detach(&mut self) {
        self.guest = Shutdown::BOTH;
        let _ = self.socket.shutdown(Direction::Read);
        self.discard_input();
        self.flush();
    }

    /// Whether a detached connection has nothing left to deliver.
    pub(super) fn is_drained(&self) -> bool {
        self.backlog.is_empty()
    }

    /// Reads what the guest will not: closing a UNIX socket with unread bytes would show its peer a
    /// connection reset where the guest's stream ended in good order. The peer can add nothing any more.
    fn discard_input(&self) {
        let mut chunk = [0u8; 4096];
        while rustix::net::recv(&self.socket, &mut chunk[..], RecvFlags::DONTWAIT)
            .is_ok_and(|(received, _)| received > 0)
        {}
    }

    /// What epoll tells of the socket.
    pub(super) fn socket_event(&mut self, readable: bool, writable: bool, hung_up: bool) {
        self.readable |= readable || hung_up;
        self.writable |= writable;
        if hung_up {
            self.host.receive = true;
            // What the guest does not want to read hides the end of the stream.
            self.host.send |= self.guest.receive;
        }
        self.flush();
    }

    fn may_read(&self) -> bool {
        self.readable && !self.host.send && !self.guest.receive
    }

    /// Whether there may be a packet for the guest.
    pub(super) fn has_packet(&self) -> bool {
        match self.phase {
            Phase::Requested { sent } => !sent,
            Phase::Accepted => true,
            Phase::Established => {
                (self.may_read() && (self.credit.room() > 0 || !self.credit_asked))
                    || self.host != self.told
                    || self.credit_wanted
                    || self.credit.has_news()
            }
        }
    }

    /// The next packet for the guest; its payload goes right into `payload`.
    pub(super) fn next_packet(&mut self, payload: &Run<'_>) -> Option<Outgoing> {
        let (op, flags, len) = match self.phase {
            Phase::Requested { sent: true } => return None,
            Phase::Requested { sent: false } => {
                self.phase = Phase::Requested { sent: true };
                (op::REQUEST, 0, 0)
            }
            Phase::Accepted => {
                self.phase = Phase::Established;
                (op::RESPONSE, 0, 0)
            }
            Phase::Established => self.next_of_established(payload)?,
        };
        self.credit_wanted = false;
        Some(Outgoing { op, flags, len, fwd_cnt: self.credit.tell() })
    }

    fn next_of_established(&mut self, payload: &Run<'_>) -> Option<(u16, u32, u32)> {
        if self.may_read() {
            if self.credit.room() > 0 {
                if let Some(length) = self.read_payload(payload) {
                    return Some((op::RW, 0, length));
                }
            } else if !self.credit_asked {
                self.credit_asked = true;
                return Some((op::CREDIT_REQUEST, 0, 0));
            }
        }
        if self.host != self.told {
            self.told = self.host;
            return Some((op::SHUTDOWN, self.host.flags(), 0));
        }
        (self.credit_wanted || self.credit.has_news()).then_some((op::CREDIT_UPDATE, 0, 0))
    }

    fn read_payload(&mut self, payload: &Run<'_>) -> Option<u32> {
        let (room, _) = payload.split_at(payload.len().min(self.credit.room().into()))?;
        if room.is_empty() {
            // A buffer for a header alone: legal, and of no use for data.
            return None;
        }
        match transfer::receive(self.socket.as_fd(), &room) {
            Ok(0) => self.host.send = true,
            Ok(received) => {
                let length = u32::try_from(received).unwrap_or(u32::MAX);
                self.credit.send(length);
                return Some(length);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
            Err(_) => self.host = Shutdown::BOTH,
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

    use super::*;

    /// A thread that waits for what it causes itself would never rest.
    #[test]
    fn a_guest_that_has_said_all_causes_no_events_while_the_host_listens() {
        let (ours, _host) = UnixStream::pair().unwrap();
        let epoll = Epoll::new().unwrap();
        let interest = EventSet::IN | EventSet::OUT | EventSet::EDGE_TRIGGERED;
        epoll.ctl(ControlOperation::Add, ours.as_raw_fd(), EpollEvent::new(interest, 0)).unwrap();
        let mut connection = Connection::requested(Ports { host: 1, guest: 2 }, ours);
        connection.phase = Phase::Established;
        let said_all = Shutdown { send: true, ..Shutdown::default() };
        assert_eq!(connection.shut_down(said_all), Ok(false));
        let mut rounds = 0;
        let mut events = [EpollEvent::default()];
        while epoll.wait(0, &mut events).unwrap() > 0 {
            connection.socket_event(events[0].event_set().contains(EventSet::IN), true, false);
            rounds += 1;
            assert!(rounds < 10);
        }
    }
}
