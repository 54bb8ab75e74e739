//! Drivers and networks that do not keep the rules.

#![allow(clippy::cast_possible_truncation, reason = "a test panics where it is wrong")]

use proptest::prelude::*;

use super::frame::{HEADER, MOST};
use super::rig::*;
use crate::virtio::mock_driver::*;

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
