//! The device between a driver on real virtqueues and a socket whose other end is the test.

#![allow(clippy::cast_possible_truncation, reason = "a test panics where it is wrong")]

use std::os::fd::OwnedFd;
use std::sync::Arc;

use proptest::prelude::*;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair, sockopt,
};
use vmm_api::MAX_FUSE_MESSAGE;

use super::session::MOST_PENDING;
use super::{Fs, FsHandle, QUEUE_SIZES};
use crate::ending::Ending;
use crate::jail::{open_no_files, seccomp};
use crate::pci::Slot;
use crate::virtio::mock_driver::*;
use crate::virtio::queue_thread::ThreadPlan;

const HIPRIO: u16 = 0;
const REQUESTS: u16 = 1;

const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const READ: u32 = 15;
const WRITE: u32 = 16;
const INTERRUPT: u32 = 36;

/// Where the driver keeps requests and answers in guest memory, one each.
const REQUEST_AT: u64 = 0x20_0000;
const ANSWER_AT: u64 = 0x80_0000;
const APART: u64 = 0x4_0000;

struct Rig {
    machine: MockMachine,
    slot: Slot,
    device: FsHandle,
}

fn rig() -> Rig {
    rig_on(MockMachine::new())
}

fn rig_on(machine: MockMachine) -> Rig {
    open_no_files();
    let ending = Arc::new(Ending::new().unwrap());
    // A call its filter forbids would end the tests.
    let confine = || seccomp::confine(seccomp::Thread::Fs);
    let (fs, device) = Fs::new("shares", ThreadPlan { name: "fs".to_owned(), confine, ending }).unwrap();
    let slot = machine.add(fs);
    Rig { machine, slot, device }
}

impl Rig {
    fn driver(&self) -> MockDriver<'_> {
        let mut driver = MockDriver::bind(&self.machine, self.slot);
        driver.start(F_VERSION_1 | F_EVENT_IDX, &QUEUE_SIZES);
        driver
    }

    fn serve(&self) -> Server {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        // A device that does not ask is a failure, and no endless wait.
        let patience = Some(std::time::Duration::from_secs(20));
        sockopt::set_socket_timeout(&ours, sockopt::Timeout::Recv, patience).unwrap();
        self.device.serve(theirs);
        Server(ours)
    }
}

/// The test's end of the socket.
struct Server(OwnedFd);

impl Server {
    /// The next request: its number and all of it.
    fn request(&self) -> (u64, Vec<u8>) {
        let mut bytes = vec![0; MAX_FUSE_MESSAGE + 1];
        let (_, length) = recv(&self.0, bytes.as_mut_slice(), RecvFlags::empty()).unwrap();
        bytes.truncate(length);
        (u64::from_ne_bytes(bytes[8..16].try_into().unwrap()), bytes)
    }

    fn send(&self, packet: &[u8]) {
        assert_eq!(send(&self.0, packet, SendFlags::empty()).unwrap(), packet.len());
    }

    fn answer(&self, number: u64, data: &[u8]) {
        self.send(&answer(number, 0, data));
    }

    fn has_nothing(&self) -> bool {
        recv(&self.0, &mut [0; 1], RecvFlags::DONTWAIT | RecvFlags::PEEK) == Err(rustix::io::Errno::AGAIN)
    }
}

fn request(opcode: u32, unique: u64, data: &[u8]) -> Vec<u8> {
    let mut bytes = (40 + data.len() as u32).to_ne_bytes().to_vec();
    bytes.extend(opcode.to_ne_bytes());
    bytes.extend(unique.to_ne_bytes());
    bytes.extend([0x77; 24]);
    bytes.extend(data);
    bytes
}

fn answer(unique: u64, error: i32, data: &[u8]) -> Vec<u8> {
    let mut bytes = (16 + data.len() as u32).to_ne_bytes().to_vec();
    bytes.extend((-error).to_ne_bytes());
    bytes.extend(unique.to_ne_bytes());
    bytes.extend(data);
    bytes
}

/// Asks with a request and room for an answer of so many bytes, both cut in two.
fn ask(driver: &mut MockDriver<'_>, place: u64, request: &[u8], room: u32) -> u16 {
    let (at, to) = (REQUEST_AT + place * APART, ANSWER_AT + place * APART);
    driver.write_memory(at, request);
    driver.write_memory(to, &vec![0xee; room as usize + 1]);
    let length = request.len() as u32;
    let mut buffers = vec![(at, 20, false), (at + 20, length - 20, false)];
    if room > 0 {
        buffers.extend([(to, 7, true), (to + 7, room - 7, true)]);
    }
    let head = driver.push(REQUESTS, &buffers);
    driver.ring(REQUESTS);
    head
}

fn answered(driver: &MockDriver<'_>, place: u64, length: u32) -> Vec<u8> {
    driver.read_memory(ANSWER_AT + place * APART, length as usize)
}

#[test]
fn the_configuration_space_holds_the_tag_and_one_request_queue() {
    let rig = rig();
    let driver = rig.driver();
    let config: Vec<u8> = (0..44).map(|at| driver.device_config(at, 1) as u8).collect();
    assert_eq!(&config[..7], b"shares\0");
    assert_eq!(&config[7..], [&[0; 29][..], &[1, 0, 0, 0], &[0; 4]].concat());
}

#[test]
fn a_request_and_its_answer_go_whole_from_memory_to_memory() {
    let rig = rig();
    let server = rig.serve();
    let mut driver = rig.driver();
    let data: Vec<u8> = (0..MAX_FUSE_MESSAGE - 40).map(|at| ((at * 31) >> 3) as u8).collect();
    let asked = request(WRITE, 7, &data);
    let head = ask(&mut driver, 0, &asked, 4096);
    let (number, seen) = server.request();
    assert_eq!(seen[..8], asked[..8]);
    assert!(seen[16..] == asked[16..]);
    server.answer(number, b"written");
    assert_eq!(driver.wait_used(REQUESTS), (head, 23));
    assert_eq!(answered(&driver, 0, 24), [&answer(7, 0, b"written")[..], &[0xee]].concat());
}

#[test]
fn answers_come_in_any_order_and_many_requests_are_on_their_way() {
    let rig = rig();
    let server = rig.serve();
    let mut driver = rig.driver();
    let heads: Vec<_> =
        (0..20).map(|place| ask(&mut driver, place, &request(READ, 100 + place, b"?"), 64)).collect();
    let numbers: Vec<_> = heads.iter().map(|_| server.request().0).collect();
    for place in [11, 3, 19, 0] {
        server.answer(numbers[place], &[place as u8; 5]);
        assert_eq!(driver.wait_used(REQUESTS), (heads[place], 21));
        assert_eq!(answered(&driver, place as u64, 21), answer(100 + place as u64, 0, &[place as u8; 5]));
    }
}

#[test]
fn requests_the_guest_calls_the_same_are_told_apart() {
    let rig = rig();
    let server = rig.serve();
    let mut driver = rig.driver();
    let heads = [0, 1].map(|place| ask(&mut driver, place, &request(READ, 5, b""), 64));
    let numbers = [server.request().0, server.request().0];
    assert_ne!(numbers[0], numbers[1]);
    server.answer(numbers[1], b"second");
    assert_eq!(driver.wait_used(REQUESTS), (heads[1], 22));
    server.answer(numbers[0], b"first");
    assert_eq!(driver.wait_used(REQUESTS), (heads[0], 21));
    assert_eq!(answered(&driver, 0, 21), answer(5, 0, b"first"));
    assert_eq!(answered(&driver, 1, 22), answer(5, 0, b"second"));
}

#[test]
fn what_nobody_answers_is_done_with_at_once_and_still_arrives() {
    let rig = rig();
    let server = rig.serve();
    let mut driver = rig.driver();
    driver.write_memory(REQUEST_AT, &request(FORGET, 9, &[1; 8]));
    let head = driver.push(HIPRIO, &[(REQUEST_AT, 48, false)]);
    driver.ring(HIPRIO);
    assert_eq!(driver.wait_used(HIPRIO), (head, 0));
    let (number, bytes) = server.request();
    assert_eq!(bytes.len(), 48);
    // An answer all the same finds nobody.
    server.answer(number, b"");
    let head = ask(&mut driver, 0, &request(GETATTR, 11, b""), 0);
    assert_eq!(driver.wait_used(REQUESTS), (head, 0));
    server.request();
}

#[test]
fn an_interrupt_is_refused_for_good() {
    let rig = rig();
    let server = rig.serve();
    let mut driver = rig.driver();
    let head = ask(&mut driver, 0, &request(INTERRUPT, 3, &[0; 8]), 16);
    assert_eq!(driver.wait_used(REQUESTS), (head, 16));
    assert_eq!(answered(&driver, 0, 16), answer(3, libc::ENOSYS, b""));
    assert!(server.has_nothing());
}

#[test]
fn what_is_no_request_is_not_sent() {
    let rig = rig();
    let server = rig.serve();
    let mut driver = rig.driver();
    let mut other_length = request(GETATTR, 2, b"");
    other_length[0] = 41;
    let too_long = request(WRITE, 2, &vec![0; MAX_FUSE_MESSAGE - 39]);
    for refused in [other_length, too_long] {
        let head = ask(&mut driver, 0, &refused, 64);
        assert_eq!(driver.wait_used(REQUESTS), (head, 16));
        assert_eq!(answered(&driver, 0, 16), answer(2, libc::EIO, b""));
    }
    // No header; no room for an answer's; memory that is not there; the wrong order.
    for buffers in [
        &[(REQUEST_AT, 39, false), (ANSWER_AT, 64, true)][..],
        &[(u64::MAX - 100, 64, false), (ANSWER_AT, 64, true)],
        &[(ANSWER_AT, 64, true), (REQUEST_AT, 64, false)],
    ] {
        let head = driver.push(REQUESTS, buffers);
        driver.ring(REQUESTS);
        assert_eq!(driver.wait_used(REQUESTS), (head, 0));
    }
    let head = ask(&mut driver, 0, &request(GETATTR, 2, b""), 15);
    assert_eq!(driver.wait_used(REQUESTS), (head, 0));
    assert!(server.has_nothing());
}

#[test]
fn answers_nobody_asked_for_are_thrown_away() {
    let rig = rig();
    let server = rig.serve();
    let mut driver = rig.driver();
    let head = ask(&mut driver, 0, &request(READ, 4, b""), 64);
    let (number, _) = server.request();
    server.answer(number + 1, b"who?");
    server.answer(0, b"notice");
    server.send(b"short");
    server.answer(number, b"good");
    server.answer(number, b"again");
    assert_eq!(driver.wait_used(REQUESTS), (head, 20));
    assert_eq!(answered(&driver, 0, 21), [&answer(4, 0, b"good")[..], &[0xee]].concat());
    // And it goes on.
    let head = ask(&mut driver, 1, &request(READ, 6, b""), 64);
    server.answer(server.request().0, b"");
    assert_eq!(driver.wait_used(REQUESTS), (head, 16));
}

#[test]
fn an_answer_that_does_not_fit_is_an_error_and_touches_nothing_else() {
    let rig = rig();
    let server = rig.serve();
    let mut driver = rig.driver();
    let mut lies: Vec<_> = vec![answer(0, 0, &[1; 65]), answer(0, 0, &[1; 3]), answer(0, 0, &[1; 3])];
    lies[1][0] += 1;
    lies[2][3] = 0xff;
    for mut lie in lies {
        let head = ask(&mut driver, 0, &request(READ, 4, b""), 64);
        let (number, _) = server.request();
        lie[8..16].copy_from_slice(&number.to_ne_bytes());
        server.send(&lie);
        assert_eq!(driver.wait_used(REQUESTS), (head, 16));
        assert_eq!(answered(&driver, 0, 17), [&answer(4, libc::EIO, b"")[..], &[0xee]].concat());
    }
}

#[test]
fn requests_wait_for_a_server_that_comes_later() {
    let rig = rig();
    let mut driver = rig.driver();
    let heads = [0, 1].map(|place| ask(&mut driver, place, &request(READ, 5 + place, b""), 64));
    let server = rig.serve();
    for head in heads {
        server.answer(server.request().0, b"");
        assert_eq!(driver.wait_used(REQUESTS), (head, 16));
    }
}

#[test]
fn with_the_server_gone_requests_of_before_and_after_fail() {
    let rig = rig();
    let server = rig.serve();
    let mut driver = rig.driver();
    let head = ask(&mut driver, 0, &request(READ, 5, b""), 64);
    server.request();
    drop(server);
    assert_eq!(driver.wait_used(REQUESTS), (head, 16));
    assert_eq!(answered(&driver, 0, 16), answer(5, libc::ENOTCONN, b""));
    let head = ask(&mut driver, 1, &request(READ, 6, b""), 64);
    assert_eq!(driver.wait_used(REQUESTS), (head, 16));
    assert_eq!(answered(&driver, 1, 16), answer(6, libc::ENOTCONN, b""));
}

#[test]
fn what_the_socket_does_not_take_yet_stays_in_the_queue() {
    let rig = rig();
    let server = rig.serve();
    let mut driver = rig.driver();
    // More than any socket's buffer holds; none is lost, and each arrives once.
    let data = vec![1; 120 << 10];
    let heads: Vec<_> =
        (0..20).map(|place| ask(&mut driver, place, &request(WRITE, place, &data), 64)).collect();
    for (place, head) in (0..).zip(heads) {
        let (number, bytes) = server.request();
        assert_eq!(bytes.len(), data.len() + 40);
        server.answer(number, &[]);
        assert_eq!(driver.wait_used(REQUESTS), (head, 16));
        assert_eq!(answered(&driver, place, 16), answer(place, 0, b""));
    }
    assert!(server.has_nothing());
}

#[test]
fn a_driver_does_not_get_the_answers_of_one_before_it() {
    let rig = rig();
    let server = rig.serve();
    let mut driver = rig.driver();
    ask(&mut driver, 0, &request(READ, 5, b""), 64);
    let (stale, _) = server.request();
    driver.set8(STATUS, 0);
    driver.write_memory(ANSWER_AT, &[0xee; 64]);
    let mut driver = rig.driver();
    let head = ask(&mut driver, 1, &request(READ, 5, b""), 64);
    server.answer(stale, b"stale");
    server.answer(server.request().0, b"fresh");
    assert_eq!(driver.wait_used(REQUESTS), (head, 21));
    assert_eq!(answered(&driver, 1, 21), answer(5, 0, b"fresh"));
    assert_eq!(answered(&driver, 0, 64), [0xee; 64]);
}

#[test]
fn a_chain_made_available_again_and_again_is_bounded() {
    let rig = rig();
    let server = rig.serve();
    let mut driver = rig.driver();
    let head = ask(&mut driver, 0, &request(READ, 5, b""), 64);
    let again = |times: usize| {
        (0..times).for_each(|_| driver.make_available(REQUESTS, head));
        driver.ring(REQUESTS);
    };
    let mut numbers = vec![server.request().0];
    while numbers.len() < MOST_PENDING {
        let times = (MOST_PENDING - numbers.len()).min(200);
        again(times);
        numbers.extend((0..times).map(|_| server.request().0));
    }
    again(2);
    assert!(server.has_nothing());
    server.answer(numbers[7], b"");
    server.request();
    assert!(server.has_nothing());
}

#[test]
fn rings_that_make_no_sense_ask_for_a_reset() {
    let rig = rig();
    let _server = rig.serve();
    let mut driver = rig.driver();
    ask(&mut driver, 0, &request(READ, 5, b""), 64);
    driver.set_available_index(REQUESTS, 0x8000);
    driver.ring(REQUESTS);
    driver.wait_needs_reset();
}

#[test]
fn a_driver_of_an_empty_place_is_saved_with_its_requests() {
    let first = rig();
    let mut driver = first.driver();
    let head = ask(&mut driver, 0, &request(READ, 5, b""), 64);
    let (state, _hold) = first.machine.pci.save();
    let second = rig_on(MockMachine::with_memory(first.machine.memory.clone()));
    second.machine.pci.restore(&state).unwrap();
    let mut driver = driver.moved_to(&second.machine);
    let server = second.serve();
    server.answer(server.request().0, b"hello");
    assert_eq!(driver.wait_used(REQUESTS), (head, 21));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever the server says, requests it answered properly are answered, and the device goes on.
    #[test]
    fn no_server_confuses_the_device(noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..64), 0..20)) {
        let rig = rig();
        let server = rig.serve();
        let mut driver = rig.driver();
        let head = ask(&mut driver, 0, &request(READ, 5, b""), 64);
        let (number, _) = server.request();
        noise.iter().filter(|packet| packet.get(8..16) != Some(&number.to_ne_bytes()[..])).for_each(|packet| server.send(packet));
        server.answer(number, b"answer");
        prop_assert_eq!(driver.wait_used(REQUESTS), (head, 22));
    }
}
