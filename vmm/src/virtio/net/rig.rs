//! A device for tests, between a driver and a network.

#![allow(clippy::cast_possible_truncation, reason = "a test panics where it is wrong")]

use std::sync::Arc;

use vmm_api::RateLimit;

use super::features::ALWAYS;
use super::frame::HEADER;
use super::mock_tap::{Network, mock_tap};
use super::{FarSide, Net, NetHandle, PLACE_MAC};
use crate::ending::Ending;
use crate::jail::{open_no_files, seccomp};
use crate::pci::Slot;
use crate::virtio::mock_driver::*;
use crate::virtio::queue_thread::ThreadPlan;

pub(super) const RX: u16 = 0;
pub(super) const TX: u16 = 1;

/// Where the driver keeps frames in guest memory.
pub(super) const OUT: u64 = 0x20_0000;
pub(super) const IN: u64 = 0x40_0000;

pub(super) const USUAL: u64 = F_VERSION_1 | F_EVENT_IDX | F_INDIRECT | ALWAYS;

pub(super) struct Rig {
    pub(super) machine: MockMachine,
    pub(super) slot: Slot,
    pub(super) handle: NetHandle,
}

/// A place.
pub(super) fn rig(pairs: u8) -> Rig {
    rig_on(MockMachine::new(), pairs)
}

pub(super) fn rig_on(machine: MockMachine, pairs: u8) -> Rig {
    open_no_files();
    let ending = Arc::new(Ending::new().unwrap());
    // A call its filter forbids would end the tests.
    let confine = || seccomp::confine(seccomp::Thread::Net);
    let plan = ThreadPlan { name: "net".to_owned(), confine, ending };
    let (net, handle) = Net::new(PLACE_MAC, pairs, plan).unwrap();
    let slot = machine.add(net);
    Rig { machine, slot, handle }
}

impl Rig {
    pub(super) fn driver(&self, features: u64, queues: &[u16]) -> MockDriver<'_> {
        let mut driver = MockDriver::bind(&self.machine, self.slot);
        driver.start(features, queues);
        driver
    }

    pub(super) fn fill(&self) -> Network {
        self.fill_limited(None, None)
    }

    pub(super) fn fill_limited(&self, transmit: Option<RateLimit>, receive: Option<RateLimit>) -> Network {
        let (tap, network) = mock_tap();
        self.handle.fill(FarSide { carriers: vec![tap], bypasses: Vec::new(), transmit, receive }).unwrap();
        network
    }
}

/// A frame with its header, different for each seed.
pub(super) fn frame(seed: u8, length: usize) -> Vec<u8> {
    let mut frame = vec![0; HEADER];
    frame.extend((0..length).map(|at| (at as u8).wrapping_mul(7).wrapping_add(seed)));
    frame
}

/// The frame as the guest sees it.
pub(super) fn in_buffers(count: u16, mut frame: Vec<u8>) -> Vec<u8> {
    frame[10..12].copy_from_slice(&count.to_le_bytes());
    frame
}

pub(super) fn transmit(driver: &mut MockDriver<'_>, frame: &[u8]) {
    driver.write_memory(OUT, frame);
    let head = driver.push(TX, &[(OUT, frame.len() as u32, false)]);
    driver.ring(TX);
    assert_eq!(driver.wait_used(TX), (head, 0));
}

/// Makes buffers of a length available, side by side.
pub(super) fn offer(driver: &mut MockDriver<'_>, count: u64, length: u32) {
    for index in 0..count {
        driver.push(RX, &[(IN + index * u64::from(length), length, true)]);
    }
    driver.ring(RX);
}
