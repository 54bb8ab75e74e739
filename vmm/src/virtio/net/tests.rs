//! The device driven through its transport, between a driver and a network that keep the rules, or do not.

#![allow(clippy::cast_possible_truncation, reason = "a test panics where it is wrong")]

use std::sync::Arc;

use proptest::prelude::*;
use vm_memory::GuestMemoryMmap;
use vmm_api::{RateLimit, TokenBucket};

use super::features::*;
use super::frame::{HEADER, MOST};
use super::mock_tap::{Network, mock_tap};
use super::{FarSide, Net, NetHandle, PLACE_MAC};
use crate::ending::Ending;
use crate::hold::Hold;
use crate::pci::Slot;
use crate::virtio::mock_driver::*;
use crate::virtio::queue_thread::ThreadPlan;

const RX: u16 = 0;
const TX: u16 = 1;

/// Where the driver keeps frames in guest memory.
const OUT: u64 = 0x20_0000;
const IN: u64 = 0x40_0000;

const USUAL: u64 = F_VERSION_1 | F_EVENT_IDX | F_INDIRECT | ALWAYS;

struct Rig {
    machine: MockMachine,
    slot: Slot,
    handle: NetHandle,
}

/// A place.
fn rig(pairs: u8) -> Rig {
    rig_on(MockMachine::new(), pairs)
}

fn rig_on(machine: MockMachine, pairs: u8) -> Rig {
    let ending = Arc::new(Ending::new().unwrap());
    let plan = ThreadPlan { name: "net".to_owned(), confine: || Ok(()), ending };
    let (net, handle) = Net::new(PLACE_MAC, pairs, plan).unwrap();
    let slot = machine.add(net);
    Rig { machine, slot, handle }
}

impl Rig {
    fn driver(&self, features: u64, queues: &[u16]) -> MockDriver<'_> {
        let mut driver = MockDriver::bind(&self.machine, self.slot);
        driver.start(features, queues);
        driver
    }

    fn fill(&self) -> Network {
        self.fill_limited(None, None)
    }

    fn fill_limited(&self, transmit: Option<RateLimit>, receive: Option<RateLimit>) -> Network {
        let (tap, network) = mock_tap();
        self.handle.fill(FarSide { carriers: vec![tap], transmit, receive }).unwrap();
        network
    }
}

/// A frame with its header, different for each seed.
fn frame(seed: u8, length: usize) -> Vec<u8> {
    let mut frame = vec![0; HEADER];
    frame.extend((0..length).map(|at| (at as u8).wrapping_mul(7).wrapping_add(seed)));
    frame
}

/// The frame as the guest sees it.
fn in_buffers(count: u16, mut frame: Vec<u8>) -> Vec<u8> {
    frame[10..12].copy_from_slice(&count.to_le_bytes());
    frame
}

fn transmit(driver: &mut MockDriver<'_>, frame: &[u8]) {
    driver.write_memory(OUT, frame);
    let head = driver.push(TX, &[(OUT, frame.len() as u32, false)]);
    driver.ring(TX);
    assert_eq!(driver.wait_used(TX), (head, 0));
}

/// Makes buffers of a length available, side by side.
fn offer(driver: &mut MockDriver<'_>, count: u64, length: u32) {
    for index in 0..count {
        driver.push(RX, &[(IN + index * u64::from(length), length, true)]);
    }
    driver.ring(RX);
}

#[test]
fn the_guest_is_told_of_mac_offloads_and_pairs() {
    let rig = rig(1);
    let driver = MockDriver::bind(&rig.machine, rig.slot);
    assert_eq!(driver.offered_features(), USUAL);
    assert_eq!(driver.device_config(0, 6).to_le_bytes()[..6], PLACE_MAC);
    assert_eq!(driver.device_config(8, 2), 1);
    let rig = self::rig(3);
    let driver = MockDriver::bind(&rig.machine, rig.slot);
    assert_eq!(driver.offered_features(), USUAL | CTRL_VQ | MQ);
    assert_eq!(driver.device_config(8, 2), 3);
}

#[test]
fn a_frame_is_sent_however_the_driver_cuts_it() {
    for features in [F_VERSION_1, USUAL] {
        let rig = rig(1);
        let network = rig.fill();
        let mut driver = rig.driver(features, &[16, 16]);
        for (seed, cuts) in [&[1026][..], &[12, 1014], &[5, 7, 1, 1000, 13], &[0, 1026, 0]].iter().enumerate()
        {
            let sent = frame(seed as u8, 1014);
            driver.write_memory(OUT, &sent);
            let mut at = OUT;
            let pieces: Vec<_> = cuts
                .iter()
                .map(|length| {
                    at += u64::from(*length);
                    (at - u64::from(*length), *length, false)
                })
                .collect();
            let head = driver.push(TX, &pieces);
            driver.ring(TX);
            assert_eq!(driver.wait_used(TX), (head, 0));
            assert_eq!(network.receive(), sent);
        }
        let longest = frame(9, MOST - HEADER);
        transmit(&mut driver, &longest);
        assert_eq!(network.receive(), longest);
    }
}

#[test]
fn a_frame_is_received_in_one_buffer_where_it_finds_room() {
    for features in [F_VERSION_1, USUAL] {
        let rig = rig(1);
        let network = rig.fill();
        let mut driver = rig.driver(features, &[16, 16]);
        for seed in 0..40 {
            let head = driver.push(RX, &[(IN, 5, true), (IN + 5, 3000, true)]);
            driver.ring(RX);
            let sent = frame(seed, 60 + usize::from(seed));
            network.send(&sent);
            assert_eq!(driver.wait_used(RX), (head, sent.len() as u32));
            assert_eq!(driver.read_memory(IN, sent.len()), in_buffers(1, sent));
        }
    }
}

#[test]
fn a_long_frame_takes_several_buffers_that_the_driver_sees_at_once() {
    let rig = rig(1);
    let network = rig.fill();
    let mut driver = rig.driver(USUAL, &[64, 16]);
    offer(&mut driver, 64, 1500);
    let sent = frame(1, 5000);
    network.send(&sent);
    driver.wait_used(RX);
    assert_eq!(driver.used_index(RX), 4);
    for length in [1500, 1500, 512] {
        assert_eq!(driver.take_used(RX).unwrap().1, length);
    }
    assert_eq!(driver.read_memory(IN, sent.len()), in_buffers(4, sent));
    let next = frame(2, MOST - HEADER);
    network.send(&next);
    let mut at = IN + 4 * 1500;
    let mut received = Vec::new();
    while received.len() < next.len() {
        let (_, length) = driver.wait_used(RX);
        received.extend(driver.read_memory(at, length as usize));
        at += 1500;
    }
    assert_eq!(received, in_buffers(MOST.div_ceil(1500) as u16, next));
}

#[test]
fn what_finds_too_few_buffers_waits_for_more() {
    let rig = rig(1);
    let network = rig.fill();
    let mut driver = rig.driver(USUAL, &[16, 16]);
    let sent = frame(1, 5000);
    offer(&mut driver, 1, 1500);
    network.send(&sent);
    driver.push(RX, &[(IN + 1500, 1500, true)]);
    driver.ring(RX);
    network.send(&frame(2, 100));
    transmit(&mut driver, &frame(3, 100));
    assert_eq!(driver.used_index(RX), 0);
    for index in 2..5 {
        driver.push(RX, &[(IN + index * 1500, 1500, true)]);
        driver.ring(RX);
    }
    for length in [1500, 1500, 1500, 512, 112] {
        assert_eq!(driver.wait_used(RX).1, length);
    }
    assert_eq!(driver.read_memory(IN, sent.len()), in_buffers(4, sent));
    assert_eq!(driver.read_memory(IN + 6000, 112), in_buffers(1, frame(2, 100)));
}

#[test]
fn what_is_longer_than_all_the_driver_can_offer_is_lost_and_the_next_frame_is_not() {
    let rig = rig(1);
    let network = rig.fill();
    let mut driver = rig.driver(USUAL, &[4, 4]);
    offer(&mut driver, 4, 1500);
    network.send(&frame(1, 9000));
    network.send(&frame(2, 100));
    assert_eq!(driver.wait_used(RX).1, 112);
    assert_eq!(driver.read_memory(IN, 112), in_buffers(1, frame(2, 100)));
    // Without mergeable buffers one is all there is for a frame.
    driver.start(F_VERSION_1, &[4, 4]);
    offer(&mut driver, 4, 1500);
    network.send(&frame(3, 1600));
    network.send(&frame(4, 1488));
    assert_eq!(driver.wait_used(RX).1, 1500);
    assert_eq!(driver.read_memory(IN, 1500), in_buffers(1, frame(4, 1488)));
}

#[test]
fn neither_direction_freezes_when_both_stand() {
    for tap_first in [true, false] {
        let rig = rig(1);
        let network = rig.fill();
        let mut driver = rig.driver(USUAL, &[16, 16]);
        // Frames wait for buffers.
        for seed in 0..3 {
            network.send(&frame(seed, 200));
        }
        // And the guest sends until nothing more goes.
        let long = frame(9, 60_000);
        driver.write_memory(OUT, &long);
        for _ in 0..16 {
            driver.push(TX, &[(OUT, long.len() as u32, false)]);
        }
        driver.ring(TX);
        driver.wait_used(TX);
        if tap_first {
            (0..16).for_each(|_| assert_eq!(network.receive(), long));
            offer(&mut driver, 3, 1500);
        } else {
            offer(&mut driver, 3, 1500);
            (0..3).for_each(|_| assert_eq!(driver.wait_used(RX).1, 212));
            (0..16).for_each(|_| assert_eq!(network.receive(), long));
        }
        (1..16).for_each(|_| assert_eq!(driver.wait_used(TX).1, 0));
        if tap_first {
            (0..3).for_each(|_| assert_eq!(driver.wait_used(RX).1, 212));
        }
        assert_eq!(driver.read_memory(IN + 3000, 212), in_buffers(1, frame(2, 200)));
    }
}

#[test]
fn more_frames_than_one_turn_moves_all_arrive() {
    let rig = rig(1);
    let network = rig.fill();
    let mut driver = rig.driver(USUAL, &[256, 256]);
    offer(&mut driver, 256, 256);
    driver.write_memory(OUT, &frame(0, 100));
    for _ in 0..200 {
        driver.push(TX, &[(OUT, 112, false)]);
    }
    driver.ring(TX);
    for seed in 0..200 {
        network.send(&frame(seed, 100));
    }
    for seed in 0..200 {
        assert_eq!(network.receive(), frame(0, 100));
        assert_eq!(driver.wait_used(RX).1, 112);
        assert_eq!(driver.read_memory(IN + u64::from(seed) * 256, 112), in_buffers(1, frame(seed, 100)));
    }
    (0..200).for_each(|_| assert_eq!(driver.wait_used(TX).1, 0));
}

#[test]
fn the_driver_chooses_when_it_is_called() {
    let rig = rig(1);
    let network = rig.fill();
    let mut driver = rig.driver(USUAL, &[16, 16]);
    driver.set_used_event(TX, 2);
    driver.write_memory(OUT, &frame(0, 100));
    for _ in 0..3 {
        driver.push(TX, &[(OUT, 112, false)]);
    }
    driver.ring(TX);
    assert_eq!(rig.machine.hypervisor.wait_interrupts(), [MockDriver::message(TX + 1)]);
    assert_eq!(driver.used_index(TX), 3);
    (0..3).for_each(|_| drop(network.receive()));
}

#[test]
fn a_place_takes_frames_and_keeps_buffers_until_there_is_a_tap() {
    let rig = rig(1);
    let mut driver = rig.driver(USUAL, &[16, 16]);
    offer(&mut driver, 2, 1500);
    for seed in 0..40 {
        transmit(&mut driver, &frame(seed, 100));
    }
    let network = rig.fill();
    assert_eq!(*network.asked.offloads.lock().unwrap(), [USUAL]);
    network.send(&frame(1, 100));
    assert_eq!(driver.wait_used(RX).1, 112);
    transmit(&mut driver, &frame(2, 100));
    assert_eq!(network.receive(), frame(2, 100));
    // It goes, and another comes.
    rig.handle.empty();
    transmit(&mut driver, &frame(3, 100));
    let other = rig.fill();
    transmit(&mut driver, &frame(4, 100));
    assert_eq!(other.receive(), frame(4, 100));
    other.send(&frame(5, 100));
    assert_eq!(driver.wait_used(RX).1, 112);
    assert_eq!(driver.read_memory(IN + 1500, 112), in_buffers(1, frame(5, 100)));
}

#[test]
fn what_stood_at_a_full_tap_goes_on_when_that_is_gone() {
    for taken_away in [true, false] {
        let rig = rig(1);
        let network = rig.fill();
        let mut driver = rig.driver(USUAL, &[16, 16]);
        let long = frame(9, 60_000);
        driver.write_memory(OUT, &long);
        for _ in 0..16 {
            driver.push(TX, &[(OUT, long.len() as u32, false)]);
        }
        driver.ring(TX);
        driver.wait_used(TX);
        if taken_away {
            rig.handle.empty();
        } else {
            drop(network);
        }
        (1..16).for_each(|_| assert_eq!(driver.wait_used(TX).1, 0));
    }
}

#[test]
fn a_driver_that_comes_after_the_tap_says_what_it_takes() {
    let rig = rig(1);
    let network = rig.fill();
    let mut driver = rig.driver(F_VERSION_1, &[16, 16]);
    transmit(&mut driver, &frame(1, 100));
    driver.start(USUAL, &[16, 16]);
    transmit(&mut driver, &frame(1, 100));
    assert_eq!(*network.asked.offloads.lock().unwrap(), [0, F_VERSION_1, USUAL]);
}

#[test]
fn what_is_limited_waits_and_nothing_is_lost() {
    let bucket = |size, refill| Some(TokenBucket { size, refill });
    for limit in [
        RateLimit { packets: bucket(2, 500), bytes: None },
        RateLimit { packets: None, bytes: bucket(100, 20_000) },
        RateLimit { packets: bucket(1, 500), bytes: bucket(1, 100_000) },
    ] {
        let rig = rig(1);
        let network = rig.fill_limited(Some(limit), Some(limit));
        let mut driver = rig.driver(USUAL, &[16, 16]);
        offer(&mut driver, 10, 256);
        (0..10).for_each(|seed| network.send(&frame(seed, 100)));
        for seed in 0..10 {
            driver.write_memory(OUT + u64::from(seed) * 256, &frame(seed, 100));
            driver.push(TX, &[(OUT + u64::from(seed) * 256, 112, false)]);
        }
        driver.ring(TX);
        for seed in 0..10 {
            assert_eq!(network.receive(), frame(seed, 100));
            assert_eq!(driver.wait_used(RX).1, 112);
            driver.wait_used(TX);
        }
        assert_eq!(driver.read_memory(IN + 9 * 256, 112), in_buffers(1, frame(9, 100)));
        // What waits for its time goes at once when there is no limit any more.
        let network = {
            rig.handle.empty();
            rig.fill()
        };
        transmit(&mut driver, &frame(1, 100));
        assert_eq!(network.receive(), frame(1, 100));
    }
}

#[test]
fn hostile_frames_are_given_back_and_go_nowhere() {
    let rig = rig(1);
    let network = rig.fill();
    let mut driver = rig.driver(USUAL, &[16, 16]);
    let far = MEMORY as u64;
    let chains: &[&[(u64, u32, bool)]] = &[
        &[(OUT, 0, false)],
        &[(OUT, 11, false)],
        &[(OUT, 12, false)],
        &[(OUT, 112, true)],
        &[(OUT, 12, false), (OUT, 100, true)],
        &[(OUT, MOST as u32 + 1, false)],
        &[(OUT, 40_000, false), (OUT, 40_000, false)],
        &[(OUT, u32::MAX, false)],
        &[(far, 112, false)],
        &[(far - 50, 112, false)],
        &[(u64::MAX - 10, 112, false)],
        &[(OUT, 12, false), (u64::MAX, 1, false)],
    ];
    for chain in chains {
        let head = driver.push(TX, chain);
        driver.ring(TX);
        assert_eq!(driver.wait_used(TX), (head, 0), "{chain:x?}");
    }
    // One that loops is too long, or as long as the queue.
    driver.set_descriptor(TX, 0, OUT, 40_000, NEXT, 0);
    driver.make_available(TX, 0);
    driver.ring(TX);
    assert_eq!(driver.wait_used(TX), (0, 0));
    // An indirect table of more pieces than the kernel takes.
    let table = 0x60_0000;
    for index in 0..2000u64 {
        driver.write_descriptor(table + 16 * index, OUT, 1, NEXT, index as u16 + 1);
    }
    driver.set_descriptor(TX, 0, table, 2000 * 16, INDIRECT, 0);
    driver.make_available(TX, 0);
    driver.ring(TX);
    assert_eq!(driver.wait_used(TX), (0, 0));
    transmit(&mut driver, &frame(1, 100));
    assert_eq!(network.receive(), frame(1, 100));
}

#[test]
fn buffers_that_are_none_ask_for_a_reset_and_a_reset_heals() {
    let far = MEMORY as u64;
    let chains: &[&[(u64, u32, bool)]] = &[
        &[(IN, 11, true)],
        &[(IN, 0, true)],
        &[(IN, 1500, false)],
        &[(IN, 1500, true), (IN, 10, false)],
        &[(far - 10, 1500, true)],
        &[(u64::MAX, 1500, true)],
    ];
    let rig = rig(1);
    let network = rig.fill();
    let mut driver = rig.driver(USUAL, &[16, 16]);
    for chain in chains {
        driver.push(RX, chain);
        driver.ring(RX);
        driver.wait_needs_reset();
        driver.start(USUAL, &[16, 16]);
    }
    for queue in [RX, TX] {
        driver.set_available_index(queue, 17);
        driver.ring(queue);
        driver.wait_needs_reset();
        driver.start(USUAL, &[16, 16]);
        driver.make_available(queue, 0xffff);
        driver.ring(queue);
        driver.wait_needs_reset();
        driver.start(USUAL, &[16, 16]);
    }
    offer(&mut driver, 1, 1500);
    network.send(&frame(1, 100));
    assert_eq!(driver.wait_used(RX).1, 112);
}

#[test]
fn a_chain_with_a_loop_is_a_buffer_that_ends() {
    let rig = rig(1);
    let network = rig.fill();
    let mut driver = rig.driver(USUAL, &[16, 16]);
    driver.set_descriptor(RX, 0, IN, 1500, NEXT | WRITE, 0);
    driver.make_available(RX, 0);
    driver.ring(RX);
    network.send(&frame(1, 100));
    assert_eq!(driver.wait_used(RX), (0, 112));
}

#[test]
fn frames_of_the_network_that_are_none_are_lost() {
    let rig = rig(1);
    let network = rig.fill();
    let mut driver = rig.driver(USUAL, &[64, 16]);
    offer(&mut driver, 64, 2048);
    network.send(&[1; HEADER - 1]);
    network.send(&vec![1; MOST + 1]);
    network.send(&vec![1; MOST + 9000]);
    network.send(&frame(1, 100));
    assert_eq!(driver.wait_used(RX).1, 112);
    assert_eq!(driver.read_memory(IN, 112), in_buffers(1, frame(1, 100)));
}

#[test]
fn after_a_reset_the_device_touches_memory_no_more() {
    let rig = rig(1);
    let network = rig.fill();
    let mut driver = rig.driver(USUAL, &[16, 16]);
    driver.write_memory(IN, &[0x55; 3000]);
    offer(&mut driver, 2, 1500);
    driver.set8(STATUS, 0);
    network.send(&frame(1, 100));
    driver.ring(RX);
    rig.machine.pci.remove(rig.slot);
    assert_eq!(driver.read_memory(IN, 3000), [0x55; 3000]);
    assert_eq!(rig.machine.config(rig.slot.number(), 0, 4), 0xffff_ffff);
}

/// Once around the rings and more, both ways.
fn use_it(driver: &mut MockDriver<'_>, network: &Network, times: u8) {
    for seed in 0..times {
        transmit(driver, &frame(seed, 80));
        assert_eq!(network.receive(), frame(seed, 80));
        network.send(&frame(seed, 90));
        assert_eq!(driver.wait_used(RX).1, 102);
        let at = IN + u64::from(seed % 8) * 1500;
        assert_eq!(driver.read_memory(at, 102), in_buffers(1, frame(seed, 90)));
        driver.push(RX, &[(at, 1500, true)]);
        driver.ring(RX);
    }
}

#[test]
fn a_driver_goes_on_where_it_was_with_a_place_and_later_with_another_tap() {
    for features in [F_VERSION_1, USUAL] {
        let first = rig(1);
        let network = first.fill();
        let mut driver = first.driver(features, &[16, 16]);
        offer(&mut driver, 8, 1500);
        use_it(&mut driver, &network, 24);
        let (state, _hold) = first.machine.pci.save();
        let memory: GuestMemoryMmap = first.machine.memory.clone();
        let second = rig_on(MockMachine::with_memory(memory), 1);
        second.machine.pci.restore(&state).unwrap();
        let mut driver = driver.moved_to(&second.machine);
        transmit(&mut driver, &frame(1, 100));
        let network = second.fill();
        assert_eq!(*network.asked.offloads.lock().unwrap(), [features]);
        use_it(&mut driver, &network, 40);
    }
}

#[test]
fn a_device_that_was_held_goes_on() {
    let rig = rig(1);
    let network = rig.fill();
    let mut driver = rig.driver(USUAL, &[16, 16]);
    offer(&mut driver, 8, 1500);
    use_it(&mut driver, &network, 8);
    let (_, holds) = rig.machine.pci.save();
    network.send(&frame(77, 90));
    holds.into_iter().for_each(Hold::go_on);
    assert_eq!(driver.wait_used(RX).1, 102);
    driver.push(RX, &[(IN, 1500, true)]);
    assert_eq!(driver.read_memory(IN, 102), in_buffers(1, frame(77, 90)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_descriptor_table_stops_the_device(
        descriptors in prop::collection::vec(
            (
                prop_oneof![Just(OUT), Just(IN), 0..MEMORY as u64, any::<u64>()],
                prop_oneof![Just(12u32), Just(1500), 0..4096u32, any::<u32>()],
                0u16..8,
                0u16..20,
            ),
            16,
        ),
        heads in prop::collection::vec((0u16..2, 0u16..20), 1..16),
    ) {
        let rig = rig(1);
        let network = rig.fill();
        let mut driver = rig.driver(USUAL, &[16, 16]);
        for (index, (address, length, flags, next)) in (0..).zip(descriptors) {
            driver.set_descriptor(RX, index, address, length, flags, next);
            driver.set_descriptor(TX, index, address, length, flags, next);
        }
        for (queue, head) in heads {
            driver.make_available(queue, head);
        }
        for seed in 0..4 {
            network.send(&frame(seed, 300));
        }
        driver.ring(RX);
        driver.ring(TX);
        rig.handle.empty();
        driver.start(F_VERSION_1, &[16, 16]);
        let network = rig.fill();
        transmit(&mut driver, &frame(1, 100));
        prop_assert_eq!(network.receive(), frame(1, 100));
    }
}
