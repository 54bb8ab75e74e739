//! All streams of the device: which packet belongs to which, and whose turn it is to send.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::rand::{GetRandomFlags, getrandom};
use vmm_api::{GUEST_CID, RequestId};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::connection::{Connection, Violation};
use super::credit::BUF_ALLOC;
use super::packet::{HOST_CID, Header, Packet, Ports, Shutdown, TYPE_STREAM, op};
use super::streams::{AnnouncedPorts, ConnectError, StreamSink};

/// The most streams at a time, with those whose guest side has ended and whose host side still reads.
pub(super) const MAX_STREAMS: usize = 1024;

/// The most resets that wait for the guest's buffers; more than a guest can need that keeps to the rules.
/// Further ones are lost on the guest that provokes them.
const MAX_RESETS: usize = 2 * MAX_STREAMS;

/// How long the guest may take to accept or refuse a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Host ports of the connections the host asks for, as Linux picks them: above those that mean something.
const FIRST_PORT: u32 = 1 << 30;

/// Names a connection for its whole life; unlike its ports, never used again. Its socket's epoll token.
pub(super) type StreamId = u64;

/// What the host waits for.
struct Asked {
    request: RequestId,
    deadline: Instant,
    supervisor: OwnedFd,
}

pub(super) struct Muxer {
    epoll: Arc<Epoll>,
    sink: Arc<dyn StreamSink>,
    announced: AnnouncedPorts,
    streams: BTreeMap<StreamId, Connection>,
    /// The streams the guest knows.
    by_ports: BTreeMap<Ports, StreamId>,
    asked: BTreeMap<StreamId, Asked>,
    /// Streams with something to send, in turn.
    turns: VecDeque<StreamId>,
    resets: VecDeque<Header>,
    /// The guest has been told that all its streams are gone, and may not have heard.
    telling: bool,
    next_id: StreamId,
    next_port: u32,
}

impl Muxer {
    /// Ports are counted from a random one: a guest that goes on from a saved one may still remember streams of that
    /// one's host, and would refuse theirs.
    pub(super) fn new(
        epoll: Arc<Epoll>,
        sink: Arc<dyn StreamSink>,
        announced: AnnouncedPorts,
    ) -> io::Result<Self> {
        let mut random = [0; 4];
        // So few bytes come whole (getrandom(2)).
        getrandom(&mut random, GetRandomFlags::empty())?;
        Ok(Self {
            epoll,
            sink,
            announced,
            streams: BTreeMap::new(),
            by_ports: BTreeMap::new(),
            asked: BTreeMap::new(),
            turns: VecDeque::new(),
            resets: VecDeque::new(),
            telling: false,
            next_id: 0,
            next_port: FIRST_PORT + (u32::from_le_bytes(random) >> 1),
        })
    }

    /// Begins a connection to the guest; the sink hears how it ends.
    pub(super) fn connect(&mut self, request: RequestId, guest: u32) {
        if self.streams.len() >= MAX_STREAMS {
            let error = ConnectError::TooManyStreams { port: guest, limit: MAX_STREAMS };
            return self.sink.connected(request, Err(error));
        }
        let ports = Ports { host: self.unused_port(guest), guest };
        match self.insert(|socket| Connection::requested(ports, socket)) {
            Ok((id, supervisor)) => {
                let deadline = Instant::now() + CONNECT_TIMEOUT;
                self.asked.insert(id, Asked { request, deadline, supervisor });
            }
            Err(source) => self.sink.connected(request, Err(ConnectError::Socket { port: guest, source })),
        }
    }

    /// There are more ports than streams, so the search ends.
    fn unused_port(&mut self, guest: u32) -> u32 {
        loop {
            let host = self.next_port;
            self.next_port = host.checked_add(1).filter(|next| *next != u32::MAX).unwrap_or(FIRST_PORT);
            if !self.by_ports.contains_key(&Ports { host, guest }) {
                return host;
            }
        }
    }

    /// Makes a stream's socket pair and takes our end in; the other is the supervisor's.
    fn insert(
        &mut self,
        connection: impl FnOnce(UnixStream) -> Connection,
    ) -> std::io::Result<(StreamId, OwnedFd)> {
        let (ours, supervisor) = UnixStream::pair()?;
        let id = self.next_id;
        let interest = EventSet::IN | EventSet::OUT | EventSet::EDGE_TRIGGERED;
        self.epoll.ctl(ControlOperation::Add, ours.as_raw_fd(), EpollEvent::new(interest, id))?;
        self.next_id += 1;
        let connection = connection(ours);
        self.by_ports.insert(connection.ports, id);
        self.streams.insert(id, connection);
        self.give_turn(id);
        Ok((id, supervisor.into()))
    }

    /// Fails the connections the guest has not answered in time.
    pub(super) fn expire(&mut self, now: Instant) {
        let late: Vec<_> =
            self.asked.iter().filter(|(_, asked)| asked.deadline <= now).map(|(id, _)| *id).collect();
        for id in late {
            let seconds = CONNECT_TIMEOUT.as_secs();
            self.fail_asked(id, |port| ConnectError::Timeout { port, seconds });
            self.reset(id);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.asked.values().map(|asked| asked.deadline).min()
    }

    fn fail_asked(&mut self, id: StreamId, error: impl FnOnce(u32) -> ConnectError) {
        if let (Some(asked), Some(connection)) = (self.asked.remove(&id), self.streams.get(&id)) {
            self.sink.connected(asked.request, Err(error(connection.ports.guest)));
        }
    }

    /// Serves what epoll tells of a stream's socket.
    pub(super) fn socket_event(&mut self, id: StreamId, events: EventSet) {
        let Some(connection) = self.streams.get_mut(&id) else { return };
        connection.socket_event(
            events.contains(EventSet::IN),
            events.contains(EventSet::OUT),
            events.intersects(EventSet::HANG_UP | EventSet::ERROR),
        );
        if self.by_ports.get(&connection.ports) == Some(&id) {
            self.give_turn(id);
        } else if connection.is_drained() {
            self.streams.remove(&id);
        }
    }

    /// Serves a packet from the guest.
    pub(super) fn packet(&mut self, packet: &Packet<'_>) {
        let Some(header) = &packet.header() else { return };
        if header.src_cid != GUEST_CID {
            return;
        }
        if header.dst_cid != HOST_CID || header.kind != TYPE_STREAM {
            return self.refuse(header);
        }
        match self.by_ports.get(&header.ports()) {
            Some(&id) => self.packet_of_stream(id, header, packet),
            None if header.op == op::REQUEST => {
                self.telling = false;
                self.accept(header);
            }
            // Of a stream that is gone. A reset would have the guest take its end for the host's wish, and not for what
            // it is about to hear of.
            None if self.telling => {}
            None => self.refuse(header),
        }
    }

    /// The driver is one that went on from a saved VM, and is told that its streams are gone. It has heard that when it
    /// opens another.
    pub(super) fn driver_resumed(&mut self) {
        self.telling = true;
    }

    /// Answers with a reset. A reset itself is never answered (virtio 1.3 §5.10.6.6).
    fn refuse(&mut self, header: &Header) {
        if header.op != op::RST {
            self.push_reset(header.refusal());
        }
    }

    fn push_reset(&mut self, reset: Header) {
        if self.resets.len() < MAX_RESETS {
            self.resets.push_back(reset);
        }
    }

    fn accept(&mut self, request: &Header) {
        if !self.announced.contains(request.dst_port) || self.streams.len() >= MAX_STREAMS {
            return self.refuse(request);
        }
        match self.insert(|socket| Connection::accepted(request, socket)) {
            Ok((_, supervisor)) => self.sink.incoming(request.dst_port, supervisor),
            Err(_) => self.refuse(request),
        }
    }

    fn packet_of_stream(&mut self, id: StreamId, header: &Header, packet: &Packet<'_>) {
        let Some(connection) = self.streams.get_mut(&id) else { return };
        connection.hear(header);
        let mut ended = false;
        let outcome = match header.op {
            op::RESPONSE => connection.establish(),
            op::RW => connection.take_payload(&packet.payload, header.len),
            op::CREDIT_UPDATE => Ok(()),
            op::CREDIT_REQUEST => {
                connection.want_credit();
                Ok(())
            }
            op::SHUTDOWN => connection.shut_down(Shutdown::from_flags(header.flags)).map(|both| ended = both),
            op::RST => {
                self.fail_asked(id, |port| ConnectError::Refused { port });
                return self.forget(id);
            }
            _ => Err(Violation),
        };
        match outcome {
            Err(Violation) => {
                self.fail_asked(id, |port| ConnectError::Refused { port });
                self.reset(id);
            }
            // §5.10.6.6: the reset that confirms a clean disconnect.
            Ok(()) if ended => self.reset(id),
            Ok(()) => {
                if !connection.is_requested()
                    && let Some(asked) = self.asked.remove(&id)
                {
                    self.sink.connected(asked.request, Ok(asked.supervisor));
                }
                self.give_turn(id);
            }
        }
    }

    /// Ends a stream and tells the guest.
    fn reset(&mut self, id: StreamId) {
        if let Some(connection) = self.streams.get(&id) {
            let reset = from_host(connection.ports, op::RST);
            self.push_reset(reset);
        }
        self.forget(id);
    }

    /// Ends a stream as far as the guest is concerned; what it has sent is still delivered.
    fn forget(&mut self, id: StreamId) {
        let Some(connection) = self.streams.get_mut(&id) else { return };
        self.by_ports.remove(&connection.ports);
        connection.detach();
        if connection.is_drained() {
            self.streams.remove(&id);
        }
    }

    /// The guest could not answer for so long.
    pub(super) fn stood_still(&mut self, duration: Duration) {
        self.asked.values_mut().for_each(|asked| asked.deadline += duration);
    }

    /// The driver is gone, and with it all it knew.
    pub(super) fn driver_gone(&mut self) {
        let known: Vec<_> = self.by_ports.values().copied().collect();
        for id in known {
            self.fail_asked(id, |port| ConnectError::Reset { port });
            self.forget(id);
        }
        self.turns.clear();
        self.resets.clear();
        self.telling = false;
    }

    fn give_turn(&mut self, id: StreamId) {
        if let Some(connection) = self.streams.get_mut(&id)
            && !connection.queued
            && connection.has_packet()
        {
            connection.queued = true;
            self.turns.push_back(id);
        }
    }

    /// Whether there may be a packet for the guest.
    pub(super) fn has_packet(&self) -> bool {
        !self.resets.is_empty() || !self.turns.is_empty()
    }

    /// Fills in the next packet for the guest; says how many bytes that are, or `None` if there was none
    /// after all.
    pub(super) fn next_packet(&mut self, packet: &Packet<'_>) -> Option<u32> {
        if let Some(reset) = self.resets.pop_front() {
            return Some(packet.set_header(reset));
        }
        while let Some(id) = self.turns.pop_front() {
            let Some(connection) = self.streams.get_mut(&id) else { continue };
            connection.queued = false;
            if self.by_ports.get(&connection.ports) != Some(&id) {
                continue;
            }
            if let Some(outgoing) = connection.next_packet(&packet.payload) {
                let header = Header {
                    len: outgoing.len,
                    flags: outgoing.flags,
                    buf_alloc: BUF_ALLOC,
                    fwd_cnt: outgoing.fwd_cnt,
                    ..from_host(connection.ports, outgoing.op)
                };
                self.give_turn(id);
                return Some(packet.set_header(header));
            }
        }
        None
    }
}

fn from_host(ports: Ports, op: u16) -> Header {
    Header {
        src_cid: HOST_CID,
        dst_cid: GUEST_CID,
        src_port: ports.host,
        dst_port: ports.guest,
        len: 0,
        kind: TYPE_STREAM,
        op,
        flags: 0,
        buf_alloc: 0,
        fwd_cnt: 0,
    }
}
