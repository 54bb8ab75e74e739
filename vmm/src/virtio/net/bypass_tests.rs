//! Frames that go past the device's thread, by somebody who only notes what is asked of it.

#![allow(clippy::cast_possible_truncation, reason = "a test panics where it is wrong")]

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};

use vmm_api::{RateLimit, TokenBucket};
use vmm_sys_util::eventfd::EventFd;

use super::FarSide;
use super::bypass::{Bypass, BypassedRing};
use super::mock_tap::{Network, mock_tap};
use super::rig::*;
use crate::hold::Hold;
use crate::memory::Memory;
use crate::virtio::mock_driver::*;

/// What it was asked.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// With the size of the rings, and where to begin in each.
    Start {
        features: u64,
        sizes: [u16; 2],
        next: [u16; 2],
    },
    Stop,
}

#[derive(Default)]
struct Notes {
    asked: Mutex<Vec<Asked>>,
    call: Mutex<Option<Arc<EventFd>>>,
}

/// It serves nothing: where it stops is where it began.
struct MockBypass {
    notes: Arc<Notes>,
    next: [u16; 2],
    refuses: bool,
}

impl Bypass for MockBypass {
    fn start(
        &mut self,
        _: BorrowedFd<'_>,
        _: &Memory,
        features: u64,
        rings: [BypassedRing; 2],
    ) -> io::Result<()> {
        let (sizes, next) = (rings.each_ref().map(|ring| ring.size), rings.each_ref().map(|ring| ring.next));
        self.notes.asked.lock().unwrap().push(Asked::Start { features, sizes, next });
        self.next = next;
        let [receive, _] = rings;
        *self.notes.call.lock().unwrap() = receive.call;
        if self.refuses { Err(io::ErrorKind::Unsupported.into()) } else { Ok(()) }
    }

    fn stop(&mut self) -> io::Result<[u16; 2]> {
        self.notes.asked.lock().unwrap().push(Asked::Stop);
        Ok(self.next)
    }
}

impl Notes {
    fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn start(next: [u16; 2]) -> Asked {
    Asked::Start { features: USUAL, sizes: [16, 16], next }
}

fn fill(rig: &Rig, transmit: Option<RateLimit>, refuses: bool) -> (Network, Arc<Notes>) {
    let (tap, network) = mock_tap();
    let notes = Arc::<Notes>::default();
    let bypass = MockBypass { notes: Arc::clone(&notes), next: [0; 2], refuses };
    let (carriers, bypasses) = (vec![tap], vec![Box::new(bypass) as Box<dyn Bypass>]);
    rig.handle.fill(FarSide { carriers, bypasses, transmit, receive: None }).unwrap();
    (network, notes)
}

/// Makes a frame available, and does not wait.
fn push(driver: &mut MockDriver<'_>, frame: &[u8]) {
    driver.write_memory(OUT, frame);
    driver.push(TX, &[(OUT, frame.len() as u32, false)]);
    driver.ring(TX);
}

#[test]
fn frames_go_past_the_thread_from_where_it_was_until_they_are_taken_back() {
    let rig = rig(1);
    let mut driver = rig.driver(USUAL, &[16, 16]);
    offer(&mut driver, 3, 1500);
    (0..3).for_each(|seed| transmit(&mut driver, &frame(seed, 100)));
    // Of the buffers, which the thread may have looked at, none is used.
    let (network, notes) = fill(&rig, None, false);
    assert_eq!(notes.take(), [start([0, 3])]);
    // What is rung for is not the thread's, nor what the tap has.
    push(&mut driver, &frame(4, 100));
    network.send(&frame(5, 90));
    rig.handle.empty();
    assert_eq!(notes.take(), [Asked::Stop]);
    // What nobody served is the thread's again, which has no tap.
    assert_eq!(driver.wait_used(TX).1, 0);
    let network = rig.fill();
    transmit(&mut driver, &frame(6, 100));
    assert_eq!(network.receive(), frame(6, 100));
    network.send(&frame(7, 90));
    assert_eq!(driver.wait_used(RX).1, 102);
    assert_eq!(driver.read_memory(IN, 102), in_buffers(1, frame(7, 90)));
}

#[test]
fn a_driver_is_called_by_who_serves_its_rings() {
    let rig = rig(1);
    let _driver = rig.driver(USUAL, &[16, 16]);
    let (_network, notes) = fill(&rig, None, false);
    notes.call.lock().unwrap().as_ref().unwrap().write(1).unwrap();
    assert_eq!(rig.machine.hypervisor.wait_interrupts(), [MockDriver::message(RX + 1)]);
}

#[test]
fn a_driver_that_resets_its_device_has_its_rings_to_itself() {
    let rig = rig(1);
    let (_network, notes) = fill(&rig, None, false);
    let mut driver = rig.driver(USUAL, &[16, 16]);
    driver.start(USUAL, &[16, 16]);
    rig.handle.empty();
    assert_eq!(notes.take(), [start([0, 0]), Asked::Stop, start([0, 0]), Asked::Stop]);
}

#[test]
fn the_device_stands_still_and_goes_on() {
    let rig = rig(1);
    let (network, notes) = fill(&rig, None, false);
    let mut driver = rig.driver(USUAL, &[16, 16]);
    let (state, holds) = rig.machine.pci.save();
    assert_eq!(notes.take(), [start([0, 0]), Asked::Stop]);
    push(&mut driver, &frame(1, 100));
    holds.into_iter().for_each(Hold::go_on);
    rig.handle.empty();
    assert_eq!(driver.wait_used(TX).1, 0);
    assert_eq!(notes.take(), [start([0, 0]), Asked::Stop]);
    drop((state, network));
}

#[test]
fn the_thread_moves_what_nobody_else_does() {
    let limit = RateLimit { bytes: Some(TokenBucket { size: 1 << 20, refill: 1 << 20 }), packets: None };
    for (limit, refuses) in [(Some(limit), false), (None, true)] {
        let rig = rig(1);
        let (network, notes) = fill(&rig, limit, refuses);
        let mut driver = rig.driver(USUAL, &[16, 16]);
        offer(&mut driver, 1, 1500);
        transmit(&mut driver, &frame(1, 100));
        assert_eq!(network.receive(), frame(1, 100));
        network.send(&frame(2, 90));
        assert_eq!(driver.wait_used(RX).1, 102);
        rig.handle.empty();
        assert_eq!(notes.take(), if refuses { vec![start([0, 0])] } else { vec![] });
    }
}
