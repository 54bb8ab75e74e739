//! Taps that come and go, and drivers whose machine is saved and goes on as another.

#![allow(clippy::cast_possible_truncation, reason = "a test panics where it is wrong")]

use super::mock_tap::Network;
use super::rig::*;
use crate::hold::Hold;
use crate::memory::Memory;
use crate::virtio::mock_driver::*;

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
        let memory: Memory = first.machine.memory.clone();
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
