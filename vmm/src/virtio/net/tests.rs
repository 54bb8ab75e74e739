//! The device driven through its transport, between a driver and a network that keep the rules.

#![allow(clippy::cast_possible_truncation, reason = "a test panics where it is wrong")]

use vmm_api::{RateLimit, TokenBucket};

use super::PLACE_MAC;
use super::features::*;
use super::frame::{HEADER, MOST};
use super::rig::*;
use crate::virtio::mock_driver::*;

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
fn a_direction_that_waits_for_its_time_gets_it_while_the_other_is_busy() {
    let rig = rig(1);
    let limit = RateLimit { packets: Some(TokenBucket { size: 1, refill: 20 }), bytes: None };
    let network = rig.fill_limited(None, Some(limit));
    let mut driver = rig.driver(USUAL, &[16, 16]);
    offer(&mut driver, 4, 1500);
    (0..4).for_each(|seed| network.send(&frame(seed, 100)));
    let mut received = 0;
    for _ in 0..10_000_000 {
        transmit(&mut driver, &frame(1, 100));
        network.receive();
        received += u32::from(driver.take_used(RX).is_some());
        if received == 4 {
            return;
        }
    }
    panic!("{received} of 4 frames came");
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
