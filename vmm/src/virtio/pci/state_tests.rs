//! A driver whose machine is saved, and goes on as another.

#![allow(clippy::cast_possible_truncation, reason = "a test panics where it is wrong")]

use std::sync::Arc;

use proptest::prelude::*;

use crate::ending::Ending;
use crate::hold::Hold;
use crate::memory::Memory;
use crate::pci::{BusState, RestoreError, Slot};
use crate::virtio::mock_driver::*;
use crate::virtio::queue_thread::ThreadPlan;
use crate::virtio::rng::Rng;

const BUFFER: u64 = 0x20_0000;

fn machine_with_rng(memory: Option<Memory>) -> (MockMachine, Slot) {
    let machine = memory.map_or_else(MockMachine::new, MockMachine::with_memory);
    let ending = Arc::new(Ending::new().unwrap());
    let plan = ThreadPlan { name: "rng".to_owned(), confine: || Ok(()), ending };
    let slot = machine.add(Rng::new(plan).unwrap());
    (machine, slot)
}

fn use_it(driver: &mut MockDriver<'_>, times: u32) {
    for _ in 0..times {
        let head = driver.push(0, &[(BUFFER, 64, true)]);
        driver.ring(0);
        assert_eq!(driver.wait_used(0), (head, 64));
    }
}

#[test]
fn a_driver_goes_on_where_it_was() {
    for features in [F_VERSION_1, F_VERSION_1 | F_EVENT_IDX] {
        let (first, slot) = machine_with_rng(None);
        let mut driver = MockDriver::bind(&first, slot);
        driver.start(features, &[16]);
        // Once around the rings and more.
        use_it(&mut driver, 21);
        let (state, _hold) = first.pci.save();
        let (second, _) = machine_with_rng(Some(first.memory.clone()));
        second.pci.restore(&state).unwrap();
        let mut driver = driver.moved_to(&second);
        assert_eq!(driver.status(), ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
        use_it(&mut driver, 40);
    }
}

#[test]
fn what_was_rung_or_raised_last_is_not_lost() {
    let (first, slot) = machine_with_rng(None);
    let mut driver = MockDriver::bind(&first, slot);
    driver.start(F_VERSION_1, &[16]);
    // The doorbell rings in the machine that ends; its device may or may not hear it.
    let head = driver.push(0, &[(BUFFER, 64, true)]);
    driver.ring(0);
    let (state, _hold) = first.pci.save();
    let (second, _) = machine_with_rng(Some(first.memory.clone()));
    second.pci.restore(&state).unwrap();
    assert!(second.hypervisor.wait_interrupts().contains(&MockDriver::message(1)));
    assert_eq!(driver.moved_to(&second).wait_used(0), (head, 64));
}

#[test]
fn a_device_that_has_no_driver_yet_gets_one_later() {
    let (first, _) = machine_with_rng(None);
    let (state, _hold) = first.pci.save();
    let (second, slot) = machine_with_rng(None);
    second.pci.restore(&state).unwrap();
    let mut driver = MockDriver::bind(&second, slot);
    driver.start(F_VERSION_1, &[16]);
    use_it(&mut driver, 3);
}

#[test]
fn a_saved_device_touches_memory_no_more() {
    let (machine, slot) = machine_with_rng(None);
    let mut driver = MockDriver::bind(&machine, slot);
    driver.start(F_VERSION_1, &[16]);
    let (_, holds) = machine.pci.save();
    driver.push(0, &[(BUFFER, 64, true)]);
    driver.ring(0);
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(driver.used_index(0), 0);
    drop(holds);
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(driver.used_index(0), 0);
}

#[test]
fn one_whose_hold_is_let_go_serves_its_driver_again() {
    let (machine, slot) = machine_with_rng(None);
    let mut driver = MockDriver::bind(&machine, slot);
    driver.start(F_VERSION_1, &[16]);
    for _ in 0..3 {
        let (_, holds) = machine.pci.save();
        let head = driver.push(0, &[(BUFFER, 64, true)]);
        driver.ring(0);
        holds.into_iter().for_each(Hold::go_on);
        assert_eq!(driver.wait_used(0), (head, 64));
    }
}

#[test]
fn a_bus_with_other_functions_is_refused() {
    let (full, _) = machine_with_rng(None);
    let empty = MockMachine::new();
    assert_eq!(empty.pci.restore(&full.pci.save().0), Err(RestoreError));
    assert_eq!(full.pci.restore(&empty.pci.save().0), Err(RestoreError));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever a damaged state says, it is taken or refused, and the device neither fails nor leaves its memory.
    #[test]
    fn any_state_is_taken_or_refused(changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..6)) {
        let (first, slot) = machine_with_rng(None);
        let mut driver = MockDriver::bind(&first, slot);
        driver.start(F_VERSION_1, &[16]);
        use_it(&mut driver, 1);
        let mut bytes = postcard::to_allocvec(&first.pci.save().0).unwrap();
        for (at, to) in changes {
            let at = usize::from(at) % bytes.len();
            bytes[at] = to;
        }
        if let Ok(state) = postcard::from_bytes::<BusState>(&bytes) {
            let (second, _) = machine_with_rng(Some(first.memory.clone()));
            let _ = second.pci.restore(&state);
        }
    }
}
