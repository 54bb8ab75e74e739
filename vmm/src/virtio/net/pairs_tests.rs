//! Several pairs of queues, and the queue that says how many are used.

#![allow(clippy::cast_possible_truncation, reason = "a test panics where it is wrong")]

use super::FarSide;
use super::features::{CTRL_VQ, MQ};
use super::mock_tap::{Network, mock_tap};
use super::rig::*;
use crate::virtio::mock_driver::*;

/// The queues of a device with two pairs.
const RX_1: u16 = 2;
const TX_1: u16 = 3;
const CONTROL: u16 = 4;
const SIZES: [u16; 5] = [16; 5];

const FEATURES: u64 = USUAL | CTRL_VQ | MQ;

const COMMAND: u64 = 0x60_0000;
const ACK: u64 = 0x60_1000;

fn fill(rig: &Rig, queues: usize) -> Vec<Network> {
    let (carriers, networks) = (0..queues).map(|_| mock_tap()).unzip();
    rig.handle.fill(FarSide { carriers, bypasses: Vec::new(), transmit: None, receive: None }).unwrap();
    networks
}

/// What the device answers.
fn command(driver: &mut MockDriver<'_>, command: &[u8]) -> u8 {
    driver.write_memory(COMMAND, command);
    driver.write_memory(ACK, &[0xee]);
    let head = driver.push(CONTROL, &[(COMMAND, command.len() as u32, false), (ACK, 1, true)]);
    driver.ring(CONTROL);
    assert_eq!(driver.wait_used(CONTROL), (head, 1));
    driver.read_memory(ACK, 1)[0]
}

fn use_pairs(driver: &mut MockDriver<'_>, pairs: u8) {
    assert_eq!(command(driver, &[4, 0, pairs, 0]), 0);
}

fn send_by(driver: &mut MockDriver<'_>, queue: u16, sent: &[u8]) {
    driver.write_memory(OUT, sent);
    driver.push(queue, &[(OUT, sent.len() as u32, false)]);
    driver.ring(queue);
    driver.wait_used(queue);
}

fn offer_to(driver: &mut MockDriver<'_>, queue: u16) {
    driver.push(queue, &[(IN + u64::from(queue) * 0x1000, 1500, true)]);
    driver.ring(queue);
}

#[test]
fn each_pair_has_a_queue_of_the_tap_once_the_driver_uses_it() {
    let rig = rig(2);
    let networks = fill(&rig, 2);
    let mut driver = rig.driver(FEATURES, &SIZES);
    use_pairs(&mut driver, 2);
    for (network, receive, send) in [(&networks[0], RX, TX), (&networks[1], RX_1, TX_1)] {
        send_by(&mut driver, send, &frame(1, 100));
        assert_eq!(network.receive(), frame(1, 100));
        offer_to(&mut driver, receive);
        network.send(&frame(2, 100));
        assert_eq!(driver.wait_used(receive).1, 112);
    }
    use_pairs(&mut driver, 1);
    assert!(networks[0].asked.attached.lock().unwrap().is_empty());
    assert_eq!(*networks[1].asked.attached.lock().unwrap(), [false, true, false]);
    send_by(&mut driver, TX_1, &frame(3, 100));
    assert_eq!(networks[0].receive(), frame(3, 100));
}

#[test]
fn a_driver_that_knows_of_one_pair_uses_the_first() {
    let rig = rig(2);
    let networks = fill(&rig, 2);
    let mut driver = rig.driver(USUAL, &[16, 16]);
    send_by(&mut driver, TX, &frame(1, 100));
    assert_eq!(networks[0].receive(), frame(1, 100));
    offer_to(&mut driver, RX);
    networks[0].send(&frame(2, 100));
    assert_eq!(driver.wait_used(RX).1, 112);
    assert_eq!(*networks[1].asked.attached.lock().unwrap(), [false]);
}

#[test]
fn a_tap_with_fewer_queues_takes_what_all_pairs_send() {
    let rig = rig(2);
    let networks = fill(&rig, 1);
    let mut driver = rig.driver(FEATURES, &SIZES);
    use_pairs(&mut driver, 2);
    for queue in [TX, TX_1] {
        send_by(&mut driver, queue, &frame(1, 100));
        assert_eq!(networks[0].receive(), frame(1, 100));
    }
    // Full for both, and both go on.
    let long = frame(2, 60_000);
    driver.write_memory(OUT, &long);
    for queue in [TX, TX_1].repeat(8) {
        driver.push(queue, &[(OUT, long.len() as u32, false)]);
    }
    driver.ring(TX);
    driver.ring(TX_1);
    (0..16).for_each(|_| assert_eq!(networks[0].receive(), long));
    for queue in [TX, TX_1].repeat(8) {
        driver.wait_used(queue);
    }
}

#[test]
fn commands_that_make_no_sense_are_refused_and_change_nothing() {
    let rig = rig(2);
    let networks = fill(&rig, 2);
    let mut driver = rig.driver(FEATURES, &SIZES);
    use_pairs(&mut driver, 2);
    for wrong in
        [&[4, 0, 0, 0][..], &[4, 0, 3, 0], &[4, 0, 2, 1], &[4, 1, 1, 0], &[0, 0, 1, 0], &[4, 0, 1], &[]]
    {
        assert_eq!(command(&mut driver, wrong), 1, "{wrong:?}");
    }
    for nowhere in [
        &[(COMMAND, 4, false)][..],
        &[(u64::MAX, 4, false), (ACK, 1, true)],
        &[(ACK, 1, true), (COMMAND, 4, false)],
    ] {
        let head = driver.push(CONTROL, nowhere);
        driver.ring(CONTROL);
        assert_eq!(driver.wait_used(CONTROL), (head, 0));
    }
    send_by(&mut driver, TX_1, &frame(1, 100));
    assert_eq!(networks[1].receive(), frame(1, 100));
    driver.set_available_index(CONTROL, 999);
    driver.ring(CONTROL);
    driver.wait_needs_reset();
}

#[test]
fn a_pair_the_driver_spoils_leaves_the_other_at_work() {
    let rig = rig(2);
    let networks = fill(&rig, 2);
    let mut driver = rig.driver(FEATURES, &SIZES);
    use_pairs(&mut driver, 2);
    driver.set_available_index(RX, 999);
    driver.ring(RX);
    driver.wait_needs_reset();
    send_by(&mut driver, TX_1, &frame(1, 100));
    assert_eq!(networks[1].receive(), frame(1, 100));
    offer_to(&mut driver, RX_1);
    networks[1].send(&frame(2, 100));
    assert_eq!(driver.wait_used(RX_1).1, 112);
}

#[test]
fn a_saved_driver_goes_on_with_the_pairs_it_used() {
    let first = rig(2);
    let mut driver = first.driver(FEATURES, &SIZES);
    use_pairs(&mut driver, 2);
    offer_to(&mut driver, RX);
    offer_to(&mut driver, RX_1);
    let (state, _hold) = first.machine.pci.save();
    let second = rig_on(MockMachine::with_memory(first.machine.memory.clone()), 2);
    second.machine.pci.restore(&state).unwrap();
    let mut driver = driver.moved_to(&second.machine);
    let networks = fill(&second, 2);
    for (network, queue) in [(&networks[0], RX), (&networks[1], RX_1)] {
        network.send(&frame(1, 100));
        assert_eq!(driver.wait_used(queue).1, 112);
    }
    use_pairs(&mut driver, 1);
}
