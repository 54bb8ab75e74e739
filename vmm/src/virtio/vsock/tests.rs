//! The device against a driver on real virtqueues.

#![allow(clippy::cast_possible_truncation, reason = "a test panics where it is wrong")]

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use proptest::prelude::*;
use vmm_api::GUEST_CID;

use super::credit::BUF_ALLOC;
use super::mock_guest::{Guest, Host, PORTS, SEND, connected, packet};
use super::muxer::MAX_STREAMS;
use super::packet::{HOST_CID, Header, Ports, Shutdown, op};
use super::{ConnectError, QUEUE_SIZES};
use crate::virtio::mock_driver::{F_EVENT_IDX, F_VERSION_1, MockMachine};

fn read_all(stream: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(31) >> 3) as u8).collect()
}

#[test]
fn the_configuration_space_holds_the_guests_address() {
    let (host, slot) = Host::new();
    let guest = Guest::start(&host, slot);
    assert_eq!(guest.driver.device_config(0, 8), GUEST_CID);
    assert_eq!(guest.driver.device_config(4, 4), 0);
}

#[test]
fn a_guest_reaches_an_announced_port_and_bytes_go_both_ways() {
    let (host, slot) = Host::new();
    let (mut guest, mut stream) = connected(&host, slot);
    guest.write(PORTS, b"from the guest");
    let mut bytes = [0; 14];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"from the guest");
    stream.write_all(b"from the host").unwrap();
    let (header, payload) = guest.receive();
    assert_eq!((header.op, header.src_port, header.dst_port), (op::RW, PORTS.host, PORTS.guest));
    assert_eq!(payload, b"from the host");
    assert_eq!(header.fwd_cnt, 14);
    assert_eq!(header.buf_alloc, BUF_ALLOC);
}

#[test]
fn the_host_reaches_a_port_the_guest_listens_on() {
    let (host, slot) = Host::new();
    let mut guest = Guest::start(&host, slot);
    host.handle.connect(7, 1025);
    let request = guest.expect(op::REQUEST);
    assert_eq!(request.dst_port, 1025);
    let ports = Ports { host: request.src_port, guest: 1025 };
    guest.say(ports, op::RESPONSE);
    let mut stream = host.connected(7).unwrap();
    guest.write(ports, b"hello");
    guest.shut_down(ports, Shutdown::BOTH);
    assert_eq!(read_all(&mut stream), b"hello");
}

#[test]
fn a_port_nobody_listens_on_is_refused_in_words() {
    let (host, slot) = Host::new();
    let mut guest = Guest::start(&host, slot);
    host.handle.connect(1, 9);
    let request = guest.expect(op::REQUEST);
    guest.say(Ports { host: request.src_port, guest: 9 }, op::RST);
    let error = host.connected(1).unwrap_err();
    assert_eq!(error.to_string(), "cannot connect to the guest's vsock port 9: nobody there listens on it");
}

#[test]
fn connecting_before_there_is_a_driver_fails_at_once() {
    let (host, _) = Host::new();
    host.handle.connect(1, 1024);
    assert!(matches!(host.connected(1), Err(ConnectError::NoDriver { port: 1024 })));
}

#[test]
fn what_the_guest_has_no_business_with_is_reset() {
    let (host, slot) = Host::new();
    let (mut guest, _stream) = connected(&host, slot);
    let elsewhere = Ports { host: 1025, guest: 50 };
    for wrong in [
        packet(elsewhere, op::REQUEST),
        packet(elsewhere, op::RW),
        packet(elsewhere, op::RESPONSE),
        packet(elsewhere, op::CREDIT_REQUEST),
        Header { dst_cid: 77, ..packet(Ports { guest: 51, ..PORTS }, op::REQUEST) },
        Header { kind: 2, ..packet(Ports { guest: 52, ..PORTS }, op::REQUEST) },
    ] {
        guest.send(wrong, &[]);
        let hypervisor = Arc::clone(&guest.driver.machine.hypervisor);
        let (reset, _) = hypervisor.wait(|| guest.take());
        let expected = Header {
            src_cid: wrong.dst_cid,
            dst_cid: GUEST_CID,
            src_port: wrong.dst_port,
            dst_port: wrong.src_port,
            op: op::RST,
            buf_alloc: 0,
            ..wrong
        };
        assert_eq!(reset, expected);
    }
}

#[test]
fn a_reset_is_not_answered_and_a_foreign_sender_not_heard() {
    let (host, slot) = Host::new();
    let (mut guest, _stream) = connected(&host, slot);
    guest.say(Ports { host: 1, guest: 1 }, op::RST);
    guest.send(Header { src_cid: 9, ..packet(PORTS, op::RST) }, &[]);
    // The connection stands, and nothing came before the answer.
    guest.say(PORTS, op::CREDIT_REQUEST);
    guest.expect(op::CREDIT_UPDATE);
}

#[test]
fn each_direction_ends_by_itself_and_behind_its_data() {
    let (host, slot) = Host::new();
    let (mut guest, mut stream) = connected(&host, slot);
    guest.write(PORTS, b"last words");
    guest.shut_down(PORTS, SEND);
    assert_eq!(read_all(&mut stream), b"last words");
    stream.write_all(b"an answer").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(guest.receive().1, b"an answer");
    let end = guest.expect(op::SHUTDOWN);
    assert!(Shutdown::from_flags(end.flags).send);
    guest.shut_down(PORTS, Shutdown::BOTH);
    guest.expect(op::RST);
}

#[test]
fn a_guest_that_receives_no_more_stops_the_hosts_writer() {
    let (host, slot) = Host::new();
    let (mut guest, mut stream) = connected(&host, slot);
    guest.shut_down(PORTS, Shutdown { receive: true, send: false });
    assert_eq!(stream.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    guest.write(PORTS, b"still heard");
    let mut bytes = [0; 11];
    stream.read_exact(&mut bytes).unwrap();
}

#[test]
fn a_host_that_goes_away_ends_both_directions() {
    let (host, slot) = Host::new();
    let (mut guest, mut stream) = connected(&host, slot);
    stream.write_all(b"bye").unwrap();
    drop(stream);
    assert_eq!(guest.receive().1, b"bye");
    let mut told = Shutdown::default();
    while told != Shutdown::BOTH {
        told = told.and(Shutdown::from_flags(guest.expect(op::SHUTDOWN).flags));
    }
    // What the guest had under way is swallowed; then it confirms, and the ports are free again.
    guest.write(PORTS, b"late");
    guest.say(PORTS, op::RST);
    guest.say(PORTS, op::REQUEST);
    guest.expect(op::RESPONSE);
}

#[test]
fn a_guest_that_closes_leaves_its_data_to_a_slow_reader() {
    let (host, slot) = Host::new();
    let (mut guest, mut stream) = connected(&host, slot);
    let mut sent = Vec::new();
    // More than the socket takes, so that some of it waits in the device.
    for chunk in pattern(3 * 65536).chunks(65536) {
        guest.write(PORTS, chunk);
        sent.extend_from_slice(chunk);
    }
    // Input that nobody will read does not spoil the end of the output.
    stream.write_all(b"unread").unwrap();
    guest.shut_down(PORTS, Shutdown::BOTH);
    while guest.receive().0.op != op::RST {}
    guest.say(PORTS, op::REQUEST);
    guest.expect(op::RESPONSE);
    assert!(read_all(&mut stream) == sent);
}

#[test]
fn megabytes_go_both_ways_at_once_and_arrive_whole() {
    const LENGTH: usize = 12 << 20;
    let (host, slot) = Host::new();
    let (mut guest, stream) = connected(&host, slot);
    let echo = std::thread::spawn(move || {
        let (mut from, mut to) = (stream.try_clone().unwrap(), stream);
        std::io::copy(&mut from, &mut to).unwrap();
        to.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let data = pattern(LENGTH);
    let (mut sent, mut room, mut back) = (0usize, BUF_ALLOC, Vec::new());
    let hypervisor = Arc::clone(&guest.driver.machine.hypervisor);
    loop {
        let header = Header { fwd_cnt: back.len() as u32, ..packet(PORTS, op::RW) };
        let step = (LENGTH - sent).min(room as usize).min(60_000);
        if step > 0 {
            guest.send(Header { len: step as u32, ..header }, &data[sent..sent + step]);
            sent += step;
            room -= step as u32;
            if sent == LENGTH {
                guest.send(Header { op: op::SHUTDOWN, flags: SEND.flags(), ..header }, &[]);
            }
        } else {
            // Room opens up as the host reads, which waits for what it wrote to be read here.
            guest.send(Header { op: op::CREDIT_UPDATE, ..header }, &[]);
        }
        let mut heard = match step {
            0 => Some(hypervisor.wait(|| guest.poll())),
            _ => guest.poll(),
        };
        while let Some((header, payload)) = heard {
            back.extend_from_slice(&payload);
            room = header.buf_alloc - (sent as u32).wrapping_sub(header.fwd_cnt);
            if header.op == op::SHUTDOWN && Shutdown::from_flags(header.flags).send {
                echo.join().unwrap();
                assert!(back == data);
                return;
            }
            heard = guest.poll();
        }
    }
}

#[test]
fn a_guest_without_buffers_loses_nothing() {
    let (host, slot) = Host::new();
    host.handle.listen(PORTS.host);
    let mut guest = Guest::start_without_buffers(&host, slot);
    guest.say(PORTS, op::REQUEST);
    let (_, mut stream) = host.incoming();
    let data = pattern(100_000);
    stream.write_all(&data).unwrap();
    drop(stream);
    guest.give_buffers(1);
    guest.expect(op::RESPONSE);
    let mut back = Vec::new();
    while back.len() < data.len() {
        back.extend(guest.receive().1);
    }
    assert!(back == data);
    guest.expect(op::SHUTDOWN);
}

#[test]
fn no_more_is_sent_than_the_guest_has_room_for() {
    let (host, slot) = Host::new();
    host.handle.listen(PORTS.host);
    let mut guest = Guest::start(&host, slot);
    guest.send(Header { buf_alloc: 10, ..packet(PORTS, op::REQUEST) }, &[]);
    guest.expect(op::RESPONSE);
    let (_, mut stream) = host.incoming();
    stream.write_all(b"0123456789abcdef").unwrap();
    assert_eq!(guest.receive().1, b"0123456789");
    guest.expect(op::CREDIT_REQUEST);
    guest.send(Header { buf_alloc: 10, fwd_cnt: 10, ..packet(PORTS, op::CREDIT_UPDATE) }, &[]);
    assert_eq!(guest.receive().1, b"abcdef");
}

#[test]
fn a_guest_that_sends_more_than_there_is_room_for_is_reset() {
    let (host, slot) = Host::new();
    let (mut guest, stream) = connected(&host, slot);
    let chunk = pattern(65536);
    let mut written = 0;
    let reset = loop {
        guest.write(PORTS, &chunk);
        written += chunk.len();
        if let Some((header, _)) = guest.poll()
            && header.op == op::RST
        {
            break header;
        }
        // The socket's buffer, the device's, and one packet too much.
        assert!(written < 4 << 20, "there is no bound");
    };
    assert_eq!(reset.dst_port, PORTS.guest);
    drop(stream);
}

#[test]
fn lengths_beyond_the_buffers_are_reset() {
    let (host, slot) = Host::new();
    let (mut guest, mut stream) = connected(&host, slot);
    guest.send(Header { len: u32::MAX, ..packet(PORTS, op::RW) }, b"short");
    guest.expect(op::RST);
    assert_eq!(read_all(&mut stream), b"");
}

#[test]
fn streams_are_bounded_and_freed_ones_serve_again() {
    let (host, slot) = Host::new();
    host.handle.listen(PORTS.host);
    let mut guest = Guest::start(&host, slot);
    let mut streams = Vec::new();
    let most = u32::try_from(MAX_STREAMS).unwrap();
    for guest_port in 0..most {
        guest.say(Ports { guest: guest_port, ..PORTS }, op::REQUEST);
        guest.expect(op::RESPONSE);
        streams.push(host.incoming().1);
    }
    guest.say(Ports { guest: most, ..PORTS }, op::REQUEST);
    guest.expect(op::RST);
    host.handle.connect(5, 1);
    assert!(matches!(host.connected(5), Err(ConnectError::TooManyStreams { .. })));
    guest.say(Ports { guest: 3, ..PORTS }, op::RST);
    guest.say(Ports { guest: most, ..PORTS }, op::REQUEST);
    guest.expect(op::RESPONSE);
}

#[test]
fn streams_take_turns() {
    let (host, slot) = Host::new();
    host.handle.listen(PORTS.host);
    let mut guest = Guest::start_without_buffers(&host, slot);
    let other = Ports { guest: PORTS.guest + 1, ..PORTS };
    guest.say(PORTS, op::REQUEST);
    let mut first = host.incoming().1;
    guest.say(other, op::REQUEST);
    let mut second = host.incoming().1;
    first.write_all(&pattern(100_000)).unwrap();
    second.write_all(b"me too").unwrap();
    // Once the device has taken this it has seen what lies in the sockets.
    guest.say(PORTS, op::CREDIT_UPDATE);
    guest.give_buffers(QUEUE_SIZES[0]);
    let order: Vec<_> = (0..5).map(|_| guest.receive().0.dst_port).collect();
    assert_eq!(order, [PORTS.guest, other.guest, PORTS.guest, other.guest, PORTS.guest]);
}

#[test]
fn a_reset_of_the_device_ends_streams_and_leaves_it_usable() {
    let (host, slot) = Host::new();
    let (mut guest, mut stream) = connected(&host, slot);
    guest.write(PORTS, b"before");
    host.handle.connect(3, 1);
    guest.expect(op::REQUEST);
    guest.driver.start(F_VERSION_1 | F_EVENT_IDX, &QUEUE_SIZES);
    guest.given.clear();
    guest.give_buffers(QUEUE_SIZES[0]);
    assert!(matches!(host.connected(3), Err(ConnectError::Reset { port: 1 })));
    assert_eq!(read_all(&mut stream), b"before");
    guest.say(PORTS, op::REQUEST);
    guest.expect(op::RESPONSE);
    host.incoming();
}

fn any_packet() -> impl Strategy<Value = (Header, usize)> {
    let header = (0..12u16, 0..4u32, 0..3u32, 0..6u32, prop_oneof![0..9u32, Just(70_000), any::<u32>()]);
    let lies = (
        prop_oneof![Just(HOST_CID), any::<u64>()],
        prop_oneof![Just(1), any::<u16>()],
        any::<u32>(),
        any::<u32>(),
    );
    (header, lies, 0..200usize).prop_map(
        |((op, guest, host, flags, len), (dst_cid, kind, alloc, forwarded), payload)| {
            let ports = Ports { host: 1023 + host, guest };
            let header = Header {
                dst_cid,
                kind,
                flags,
                len,
                buf_alloc: alloc,
                fwd_cnt: forwarded,
                ..packet(ports, op)
            };
            (header, payload)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a guest sends, the device goes on serving those who keep to the rules.
    #[test]
    fn lies_do_no_harm(packets in prop::collection::vec(any_packet(), 1..60)) {
        let (host, slot) = Host::new();
        host.handle.listen(PORTS.host);
        let mut guest = Guest::start(&host, slot);
        for (header, payload) in packets {
            guest.send(header, &pattern(payload));
            while guest.take().is_some() {}
        }
        guest.say(PORTS, op::REQUEST);
        let hypervisor = Arc::clone(&guest.driver.machine.hypervisor);
        hypervisor.wait(|| {
            let mut accepted = None;
            while let Some((header, _)) = guest.take() {
                let to_us = header.dst_port == PORTS.guest && header.op == op::RESPONSE;
                accepted = accepted.or(to_us.then_some(()));
            }
            accepted
        });
    }
}

/// virtio 1.3 §5.10.6.7.
#[test]
fn a_guest_that_goes_on_elsewhere_is_told_that_its_streams_are_gone() {
    const EVENTS: u16 = 2;
    const BUFFER: u64 = 0x90_0000;
    let (host, slot) = Host::new();
    let (mut guest, mut stream) = connected(&host, slot);
    guest.driver.write_memory(BUFFER, &[0xff; 4]);
    let head = guest.driver.push(EVENTS, &[(BUFFER, 4, true)]);
    let (state, holds) = host.machine.pci.save();
    drop(holds);
    assert_eq!(read_all(&mut stream), b"", "the stream ends with the machine");

    let (elsewhere, _) = Host::with(MockMachine::with_memory(host.machine.memory.clone()));
    elsewhere.machine.pci.restore(&state).unwrap();
    elsewhere.handle.listen(PORTS.host);
    let mut guest = guest.moved_to(&elsewhere);
    assert_eq!(guest.driver.wait_used(EVENTS), (head, 4));
    assert_eq!(guest.driver.read_memory(BUFFER, 4), [0; 4]);
    // Before it has heard, it says more on the old stream: no reset comes before the answer to what is new.
    guest.write(PORTS, b"lost");
    let fresh = Ports { guest: 41_000, ..PORTS };
    guest.say(fresh, op::REQUEST);
    guest.expect(op::RESPONSE);
    guest.write(PORTS, b"wrong");
    guest.expect(op::RST);
}
