//! Requests of a driver, honest and not.

#![allow(clippy::cast_possible_truncation, reason = "a test panics where it is wrong")]

use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vmm_api::MEMORY_BLOCK;

use super::{Mem, MemHandle};
use crate::arch::layout;
use crate::ending::Ending;
use crate::memory;
use crate::pci::Slot;
use crate::virtio::mock_driver::*;
use crate::virtio::queue_thread::ThreadPlan;

const BLOCK: u64 = MEMORY_BLOCK;
const REQUEST: u64 = 0x10_0000;
const RESPONSE: u64 = 0x20_0000;
const PLUG: u16 = 0;
const UNPLUG: u16 = 1;
const UNPLUG_ALL: u16 = 2;
const STATE: u16 = 3;
const ACK: u16 = 0;
const NACK: u16 = 1;
const ERROR: u16 = 3;

fn room() -> u64 {
    layout::room(MEMORY as u64).start
}

fn machine() -> (MockMachine, Slot, MemHandle) {
    let machine = MockMachine::new();
    let ending = Arc::new(Ending::new().unwrap());
    let plan = ThreadPlan { name: "mem".to_owned(), confine: || Ok(()), ending };
    let (device, handle) = Mem::new(layout::room(MEMORY as u64), plan).unwrap();
    let slot = machine.add(device);
    (machine, slot, handle)
}

fn started<'m>(machine: &'m MockMachine, slot: Slot) -> MockDriver<'m> {
    let mut driver = MockDriver::bind(machine, slot);
    driver.start(F_VERSION_1, &[16]);
    driver
}

/// As the main thread does: the room is open before the guest hears of it.
fn ask(machine: &MockMachine, handle: &MemHandle, blocks: u64, usable: u64) {
    memory::room(&machine.memory).unwrap().open(usable * BLOCK).unwrap();
    handle.request(blocks * BLOCK, usable * BLOCK);
}

/// The kind of the response, and the state in it.
fn request(driver: &mut MockDriver<'_>, kind: u16, address: u64, count: u16) -> (u16, u16) {
    let mut request = u64::from(kind).to_le_bytes().to_vec();
    request.extend(address.to_le_bytes());
    request.extend(u64::from(count).to_le_bytes());
    driver.write_memory(REQUEST, &request);
    let head = driver.push(0, &[(REQUEST, 24, false), (RESPONSE, 10, true)]);
    driver.ring(0);
    assert_eq!(driver.wait_used(0), (head, 10));
    let response = driver.read_memory(RESPONSE, 10);
    (u16::from_le_bytes([response[0], response[1]]), u16::from_le_bytes([response[8], response[9]]))
}

fn has_followed(handle: &MemHandle) -> bool {
    let mut sources = [PollFd::from_borrowed_fd(handle.as_fd(), PollFlags::IN)];
    poll(&mut sources, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
}

#[test]
fn a_driver_finds_nothing_to_take_until_it_is_asked_to() {
    let (machine, slot, handle) = machine();
    assert_eq!(machine.config(slot.number(), 2, 2), 0x1058);
    let driver = started(&machine, slot);
    let config = |driver: &MockDriver<'_>| [0, 16, 24, 32, 40, 48].map(|at| driver.device_config(at, 8));
    assert_eq!(config(&driver), [BLOCK, room(), vmm_api::MEMORY_ROOM, 0, 0, 0]);
    let generation = driver.config_generation();
    ask(&machine, &handle, 3, 64);
    assert_eq!(machine.hypervisor.wait_interrupts(), [MockDriver::message(0)]);
    assert_eq!(config(&driver)[3..], [64 * BLOCK, 0, 3 * BLOCK]);
    assert_ne!(driver.config_generation(), generation);
}

#[test]
fn blocks_are_taken_used_and_given_back_as_zeroes() {
    let (machine, slot, handle) = machine();
    let mut driver = started(&machine, slot);
    ask(&machine, &handle, 2, 64);
    assert!(!has_followed(&handle));
    assert_eq!(request(&mut driver, PLUG, room(), 2).0, ACK);
    assert!(has_followed(&handle));
    assert_eq!((handle.plugged(), driver.device_config(40, 8)), (2 * BLOCK, 2 * BLOCK));
    let second = room() + BLOCK;
    [room(), second].into_iter().for_each(|block| driver.write_memory(block, &[0xaa; 8192]));
    ask(&machine, &handle, 1, 64);
    assert!(!handle.has_followed() && !has_followed(&handle));
    assert_eq!(request(&mut driver, UNPLUG, second, 1).0, ACK);
    assert!(has_followed(&handle));
    assert_eq!(driver.read_memory(second, 8192), [0; 8192]);
    assert_eq!(driver.read_memory(room(), 8192), [0xaa; 8192]);
    assert_eq!(request(&mut driver, UNPLUG_ALL, 0, 0).0, ACK);
    assert_eq!(driver.read_memory(room(), 8192), [0; 8192]);
    assert_eq!(handle.plugged(), 0);
}

#[test]
fn hostile_requests_are_refused_and_change_nothing() {
    let (machine, slot, handle) = machine();
    let mut driver = started(&machine, slot);
    assert_eq!(request(&mut driver, PLUG, room(), 1).0, ERROR);
    ask(&machine, &handle, 2, 64);
    assert_eq!(request(&mut driver, PLUG, room(), 3).0, NACK);
    for (kind, address, count) in [
        (PLUG, 0, 1),
        (PLUG, room() + 1, 1),
        (PLUG, room(), 0),
        (PLUG, room() + 64 * BLOCK, 1),
        (PLUG, u64::MAX, u16::MAX),
        (UNPLUG, room(), 1),
        (UNPLUG, 0, 1),
        (STATE, room() + 63 * BLOCK, 2),
        (4, room(), 1),
        (u16::MAX, room(), 1),
    ] {
        assert_eq!(request(&mut driver, kind, address, count).0, ERROR, "{kind} {address:x} {count}");
    }
    assert_eq!(handle.plugged(), 0);
    assert_eq!(request(&mut driver, PLUG, room(), 1), (ACK, 0));
    assert_eq!(request(&mut driver, STATE, room(), 2), (ACK, 2));
    assert_eq!(request(&mut driver, STATE, room() + BLOCK, 2), (ACK, 1));
    // A request that is cut short, and a response for which there is no room.
    driver.write_memory(REQUEST, &[0; 24]);
    let head = driver.push(0, &[(REQUEST, 17, false), (RESPONSE, 10, true)]);
    driver.ring(0);
    assert_eq!(driver.wait_used(0), (head, 10));
    assert_eq!(driver.read_memory(RESPONSE, 2), ERROR.to_le_bytes());
    let head = driver.push(0, &[(REQUEST, 24, false)]);
    driver.ring(0);
    assert_eq!(driver.wait_used(0), (head, 0));
    // What is not open is no memory: not of a request, nor of a response.
    let head = driver.push(0, &[(REQUEST, 24, false), (room() + 64 * BLOCK, 10, true)]);
    driver.ring(0);
    assert_eq!(driver.wait_used(0), (head, 0));
}

#[test]
fn what_is_plugged_stays_so_when_the_driver_starts_anew() {
    let (machine, slot, handle) = machine();
    let mut driver = started(&machine, slot);
    ask(&machine, &handle, 2, 64);
    assert_eq!(request(&mut driver, PLUG, room(), 2).0, ACK);
    driver.start(F_VERSION_1, &[16]);
    assert_eq!(driver.device_config(40, 8), 2 * BLOCK);
    assert_eq!(request(&mut driver, UNPLUG_ALL, 0, 0).0, ACK);
    assert_eq!(driver.device_config(40, 8), 0);
}
