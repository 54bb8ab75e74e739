//! For tests: a machine with a vsock device, whose thread is under its real filter; its supervisor; and the
//! guest's driver.

#![allow(clippy::cast_possible_truncation, reason = "a test panics where it is wrong")]

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vmm_api::{GUEST_CID, RequestId};

use super::packet::{HOST_CID, Header, Ports, Shutdown, TYPE_STREAM, op};
use super::{ConnectError, F_STREAM, QUEUE_SIZES, StreamSink, Vsock, VsockHandle};
use crate::ending::Ending;
use crate::jail::seccomp;
use crate::pci::Slot;
use crate::virtio::mock_driver::{F_EVENT_IDX, F_VERSION_1, MockDriver, MockMachine};

const RX: u16 = 0;
const TX: u16 = 1;
const HEADER: usize = 44;

/// Guest memory: a buffer for each descriptor of the receive queue, then one packet to send.
const RX_BUFFERS: u64 = 0x10_0000;
const RX_BUFFER: u32 = 4096;
const TX_BUFFER: u64 = 0x80_0000;

/// What the guest says it has room for.
const GUEST_ALLOC: u32 = 256 * 1024;

/// What does not happen in this time never will.
const PATIENCE: Duration = Duration::from_secs(20);

enum Arrival {
    Incoming(u32, UnixStream),
    Connected(RequestId, Result<UnixStream, ConnectError>),
}

struct Supervisor(Mutex<Sender<Arrival>>);

impl StreamSink for Supervisor {
    fn incoming(&self, port: u32, stream: OwnedFd) {
        self.0.lock().unwrap().send(Arrival::Incoming(port, stream.into())).unwrap();
    }

    fn connected(&self, request: RequestId, result: Result<OwnedFd, ConnectError>) {
        let arrival = Arrival::Connected(request, result.map(UnixStream::from));
        self.0.lock().unwrap().send(arrival).unwrap();
    }
}

/// A machine with a vsock device, and its supervisor.
pub(super) struct Host {
    pub(super) machine: MockMachine,
    pub(super) handle: VsockHandle,
    arrivals: Receiver<Arrival>,
}

impl Host {
    pub(super) fn new() -> (Self, Slot) {
        Self::with(MockMachine::new())
    }

    pub(super) fn with(machine: MockMachine) -> (Self, Slot) {
        let (sender, arrivals) = channel();
        let ending = Arc::new(Ending::new().unwrap());
        let sink = Arc::new(Supervisor(Mutex::new(sender)));
        let (vsock, handle) = Vsock::new(sink, ending, || seccomp::confine(seccomp::Thread::Vsock)).unwrap();
        let slot = machine.add(vsock);
        (Self { machine, handle, arrivals }, slot)
    }

    pub(super) fn incoming(&self) -> (u32, UnixStream) {
        match self.arrivals.recv_timeout(PATIENCE).unwrap() {
            Arrival::Incoming(port, stream) => (port, stream),
            Arrival::Connected(request, _) => panic!("request {request} was answered"),
        }
    }

    pub(super) fn connected(&self, request: RequestId) -> Result<UnixStream, ConnectError> {
        match self.arrivals.recv_timeout(PATIENCE).unwrap() {
            Arrival::Connected(answered, result) if answered == request => result,
            _ => panic!("something else arrived"),
        }
    }
}

/// The guest's driver and its sockets.
pub(super) struct Guest<'m> {
    pub(super) driver: MockDriver<'m>,
    /// Addresses of the receive buffers the device has, in order.
    pub(super) given: VecDeque<u64>,
}

impl<'m> Guest<'m> {
    /// Ready, all receive buffers given.
    pub(super) fn start(host: &'m Host, slot: Slot) -> Self {
        let mut guest = Self::start_without_buffers(host, slot);
        guest.give_buffers(QUEUE_SIZES[0]);
        guest
    }

    pub(super) fn start_without_buffers(host: &'m Host, slot: Slot) -> Self {
        let mut driver = MockDriver::bind(&host.machine, slot);
        driver.start(F_VERSION_1 | F_EVENT_IDX | F_STREAM, &QUEUE_SIZES);
        Self { driver, given: VecDeque::new() }
    }

    /// Goes on with the device of another machine.
    pub(super) fn moved_to(self, host: &Host) -> Guest<'_> {
        Guest { driver: self.driver.moved_to(&host.machine), given: self.given }
    }

    pub(super) fn give_buffers(&mut self, count: u16) {
        for index in 0..count {
            self.give_buffer(RX_BUFFERS + u64::from(index) * u64::from(RX_BUFFER));
        }
        self.driver.ring(RX);
    }

    pub(super) fn give_buffer(&mut self, address: u64) {
        self.driver.push(RX, &[(address, RX_BUFFER, true)]);
        self.given.push_back(address);
    }

    /// The next packet from the device, if there is one. Its buffer goes back.
    pub(super) fn take(&mut self) -> Option<(Header, Vec<u8>)> {
        let (_, length) = self.driver.take_used(RX)?;
        let address = self.given.pop_front().unwrap();
        let bytes = self.driver.read_memory(address, length as usize);
        self.give_buffer(address);
        self.driver.ring(RX);
        let (header, payload) = bytes.split_first_chunk::<HEADER>().unwrap();
        let header = Header::from_bytes(header);
        assert_eq!(header.len as usize, payload.len());
        assert_eq!(header.dst_cid, GUEST_CID);
        Some((header, payload.to_vec()))
    }

    /// As `take`, with a packet that has to come from the host's address.
    pub(super) fn poll(&mut self) -> Option<(Header, Vec<u8>)> {
        let (header, payload) = self.take()?;
        assert_eq!(header.src_cid, HOST_CID);
        Some((header, payload))
    }

    pub(super) fn receive(&mut self) -> (Header, Vec<u8>) {
        let hypervisor = Arc::clone(&self.driver.machine.hypervisor);
        hypervisor.wait(|| self.poll())
    }

    /// Receives a packet that has to be of this kind.
    pub(super) fn expect(&mut self, op: u16) -> Header {
        let (header, _) = self.receive();
        assert_eq!(header.op, op, "{header:?}");
        header
    }

    /// Sends a packet, its payload cut in two, and waits until the device has taken it.
    pub(super) fn send(&mut self, header: Header, payload: &[u8]) {
        let half = payload.len() / 2;
        self.driver.write_memory(TX_BUFFER, &header.to_bytes());
        self.driver.write_memory(TX_BUFFER + HEADER as u64, payload);
        let mut buffers = vec![(TX_BUFFER, (HEADER + half) as u32, false)];
        if payload.len() > half {
            buffers.push((TX_BUFFER + (HEADER + half) as u64, (payload.len() - half) as u32, false));
        }
        self.driver.push(TX, &buffers);
        self.driver.ring(TX);
        self.driver.wait_used(TX);
    }

    pub(super) fn say(&mut self, ports: Ports, op: u16) {
        self.send(packet(ports, op), &[]);
    }

    pub(super) fn write(&mut self, ports: Ports, payload: &[u8]) {
        self.send(Header { len: payload.len() as u32, ..packet(ports, op::RW) }, payload);
    }

    pub(super) fn shut_down(&mut self, ports: Ports, ended: Shutdown) {
        self.send(Header { flags: ended.flags(), ..packet(ports, op::SHUTDOWN) }, &[]);
    }
}

pub(super) fn packet(ports: Ports, op: u16) -> Header {
    Header {
        src_cid: GUEST_CID,
        dst_cid: HOST_CID,
        src_port: ports.guest,
        dst_port: ports.host,
        len: 0,
        kind: TYPE_STREAM,
        op,
        flags: 0,
        buf_alloc: GUEST_ALLOC,
        fwd_cnt: 0,
    }
}

pub(super) const PORTS: Ports = Ports { host: 1024, guest: 40_000 };
pub(super) const SEND: Shutdown = Shutdown { receive: false, send: true };

/// A guest that is connected to the announced port.
pub(super) fn connected(host: &Host, slot: Slot) -> (Guest<'_>, UnixStream) {
    host.handle.listen(PORTS.host);
    let mut guest = Guest::start(host, slot);
    guest.say(PORTS, op::REQUEST);
    guest.expect(op::RESPONSE);
    let (port, stream) = host.incoming();
    assert_eq!(port, PORTS.host);
    (guest, stream)
}
