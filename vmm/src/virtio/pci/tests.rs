//! The transport against drivers that keep the rules and drivers that do not.

#![allow(clippy::cast_possible_truncation, reason = "a test panics where it is wrong")]

use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use virtio_queue::QueueT;

use crate::pci::Slot;
use crate::virtio::device::{ActivateError, Activation, Standing, VirtioDevice};
use crate::virtio::mock_driver::*;

const F_OWN: u64 = 1 << 5;

/// A device that only records what its transport does with it.
#[derive(Default, Clone)]
struct Recorder {
    activation: Arc<Mutex<Option<Activation>>>,
    resets: Arc<Mutex<u32>>,
    refuses: bool,
}

impl VirtioDevice for Recorder {
    fn device_type(&self) -> u32 {
        4
    }

    fn queue_sizes(&self) -> &[u16] {
        &[64, 8]
    }

    fn features(&self) -> u64 {
        F_OWN
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        for (at, byte) in (offset..).zip(data) {
            *byte = if at < 4 { 0xa0 + at as u8 } else { 0 };
        }
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        if self.refuses {
            return Err(ActivateError::ThreadGone);
        }
        *self.activation.lock().unwrap() = Some(activation);
        Ok(())
    }

    fn reset(&mut self) {
        *self.resets.lock().unwrap() += 1;
        *self.activation.lock().unwrap() = None;
    }

    fn hold(&mut self) -> Option<Standing> {
        None
    }
}

impl Recorder {
    fn is_active(&self) -> bool {
        self.activation.lock().unwrap().is_some()
    }
}

fn machine_with(recorder: &Recorder) -> (MockMachine, Slot) {
    let machine = MockMachine::new();
    let slot = machine.add(recorder.clone());
    (machine, slot)
}

#[test]
fn a_driver_finds_negotiates_and_starts_the_device() {
    let recorder = Recorder::default();
    let (machine, slot) = machine_with(&recorder);
    assert_eq!(machine.config(slot.number(), 0, 4), 0x1044_1af4);
    let mut driver = MockDriver::bind(&machine, slot);
    assert_eq!(driver.offered_features(), F_OWN | F_INDIRECT | F_EVENT_IDX | F_VERSION_1);
    assert_eq!(driver.device_config(0, 4), 0xa3a2_a1a0);
    driver.start(F_OWN | F_EVENT_IDX | F_VERSION_1, &[16]);

    let guard = recorder.activation.lock().unwrap();
    let activation = guard.as_ref().unwrap();
    assert_eq!(activation.features, F_OWN | F_EVENT_IDX | F_VERSION_1);
    let queue = activation.queues[0].as_ref().unwrap();
    assert_eq!(queue.queue.size(), 16);
    assert!(queue.queue.event_idx_enabled());
    assert!(activation.queues[1].is_none());

    driver.ring(0);
    assert_eq!(queue.doorbell.read().unwrap(), 1);
    machine.mmio.write(driver.doorbell(0), &[0, 0]);
    assert_eq!(queue.doorbell.read().unwrap(), 1);

    activation.interrupt.used(0);
    activation.interrupt.used(1);
    assert_eq!(machine.hypervisor.take_interrupts(), [MockDriver::message(1)]);
}

#[test]
fn features_ok_is_refused_without_version_1_or_with_what_was_not_offered() {
    let (machine, slot) = machine_with(&Recorder::default());
    let driver = MockDriver::bind(&machine, slot);
    assert!(!driver.negotiate(F_OWN));
    assert!(!driver.negotiate(F_VERSION_1 | 1 << 6));
    assert!(!driver.negotiate(F_VERSION_1 | 1 << 63));
    assert!(driver.negotiate(F_VERSION_1));
}

#[test]
fn features_are_frozen_at_features_ok() {
    let recorder = Recorder::default();
    let (machine, slot) = machine_with(&recorder);
    let driver = MockDriver::bind(&machine, slot);
    assert!(driver.negotiate(F_VERSION_1));
    driver.set_features(F_VERSION_1 | F_OWN);
    driver.set8(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    assert_eq!(recorder.activation.lock().unwrap().as_ref().unwrap().features, F_VERSION_1);
}

#[test]
fn status_bits_out_of_turn_have_no_effect() {
    let recorder = Recorder::default();
    let (machine, slot) = machine_with(&recorder);
    let driver = MockDriver::bind(&machine, slot);
    for bit in [DRIVER, FEATURES_OK, DRIVER_OK] {
        driver.set8(STATUS, bit);
        assert_eq!(driver.status(), 0, "{bit:#x}");
    }
    driver.set8(STATUS, ACKNOWLEDGE);
    driver.set8(STATUS, ACKNOWLEDGE | DRIVER);
    driver.set8(STATUS, ACKNOWLEDGE | DRIVER | DRIVER_OK);
    assert_eq!(driver.status(), ACKNOWLEDGE | DRIVER);
    driver.set8(STATUS, ACKNOWLEDGE);
    assert_eq!(driver.status(), ACKNOWLEDGE | DRIVER, "only a reset takes bits away");
    driver.set8(STATUS, ACKNOWLEDGE | DRIVER | NEEDS_RESET);
    assert_eq!(driver.status(), ACKNOWLEDGE | DRIVER, "the device's own bit");
    assert!(!recorder.is_active());
}

#[test]
fn a_device_given_up_as_failed_takes_nothing_but_a_reset() {
    let recorder = Recorder::default();
    let (machine, slot) = machine_with(&recorder);
    let driver = MockDriver::bind(&machine, slot);
    assert!(driver.negotiate(F_VERSION_1));
    driver.set8(STATUS, 0x80 | ACKNOWLEDGE | DRIVER | FEATURES_OK);
    driver.set8(STATUS, 0x80 | ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    assert!(!recorder.is_active());
    driver.set8(STATUS, 0);
    assert_eq!(driver.status(), 0);
}

#[test]
fn queues_are_frozen_at_driver_ok() {
    let (machine, slot) = machine_with(&Recorder::default());
    let mut driver = MockDriver::bind(&machine, slot);
    driver.start(F_VERSION_1, &[16]);
    for (queue, register) in [(0, QUEUE_DESC), (0, QUEUE_DRIVER), (0, QUEUE_DEVICE), (1, QUEUE_DESC)] {
        driver.set16(QUEUE_SELECT, queue);
        let before = driver.get(register, 8);
        driver.set64(register, 0xdead_0000);
        assert_eq!(driver.get(register, 8), before, "{register:#x} of queue {queue}");
    }
    driver.set16(QUEUE_SELECT, 0);
    driver.set16(QUEUE_SIZE, 32);
    assert_eq!(driver.get(QUEUE_SIZE, 2), 16);
    driver.set16(QUEUE_SELECT, 1);
    driver.set16(QUEUE_ENABLE, 1);
    assert_eq!(driver.get(QUEUE_ENABLE, 2), 0);
}

#[test]
fn queues_cannot_be_set_up_before_features_ok_nor_changed_once_enabled() {
    let (machine, slot) = machine_with(&Recorder::default());
    let mut driver = MockDriver::bind(&machine, slot);
    driver.set16(QUEUE_SELECT, 0);
    driver.set64(QUEUE_DESC, 0x1000);
    assert_eq!(driver.get(QUEUE_DESC, 8), 0);
    assert!(driver.negotiate(F_VERSION_1));
    driver.set_up_queue(0, 16);
    driver.set64(QUEUE_DESC, 0x5000);
    assert_eq!(driver.get(QUEUE_DESC, 8), 0x1_0000);
}

/// Starts with queue 0 as given; whether the device went to work.
fn starts_with(size: u16, descriptors: u64, available: u64, used: u64) -> bool {
    let recorder = Recorder::default();
    let (machine, slot) = machine_with(&recorder);
    let driver = MockDriver::bind(&machine, slot);
    assert!(driver.negotiate(F_VERSION_1));
    driver.set16(CONFIG_VECTOR, 0);
    driver.set16(QUEUE_SELECT, 0);
    driver.set16(QUEUE_SIZE, size);
    driver.set64(QUEUE_DESC, descriptors);
    driver.set64(QUEUE_DRIVER, available);
    driver.set64(QUEUE_DEVICE, used);
    driver.set16(QUEUE_ENABLE, 1);
    driver.set8(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    let needs_reset = driver.status() & NEEDS_RESET != 0;
    assert_eq!(needs_reset, !recorder.is_active());
    if needs_reset {
        assert_eq!(machine.hypervisor.take_interrupts(), [MockDriver::message(0)]);
        driver.set8(STATUS, 0);
        assert_eq!(driver.status(), 0);
    }
    !needs_reset
}

#[test]
fn a_queue_that_is_not_valid_asks_for_a_reset() {
    let end = MEMORY as u64;
    assert!(starts_with(64, 0x1000, 0x2000, 0x3000));
    assert!(starts_with(64, end - 64 * 16, 0x2000, 0x3000), "up to the last byte");
    for size in [0, 3, 128, 0x8000] {
        assert!(!starts_with(size, 0x1000, 0x2000, 0x3000), "size {size}");
    }
    assert!(!starts_with(64, 0x1008, 0x2000, 0x3000), "descriptor table not aligned");
    assert!(!starts_with(64, 0x1000, 0x2001, 0x3000), "available ring not aligned");
    assert!(!starts_with(64, 0x1000, 0x2000, 0x3002), "used ring not aligned");
    assert!(!starts_with(64, end - 64 * 16 + 16, 0x2000, 0x3000), "descriptor table beyond memory");
    assert!(!starts_with(64, 0x1000, end - 4, 0x3000), "available ring beyond memory");
    assert!(!starts_with(64, 0x1000, 0x2000, 0xc000_0000), "used ring in the device's own region");
    assert!(!starts_with(64, !0xf, !1, !3), "at the end of the address space");
    assert!(!starts_with(64, 0x1000, 0, 0x3000), "available ring never set");
}

#[test]
fn a_device_that_cannot_start_asks_for_a_reset() {
    let recorder = Recorder { refuses: true, ..Recorder::default() };
    let (machine, slot) = machine_with(&recorder);
    let driver = MockDriver::bind(&machine, slot);
    assert!(driver.negotiate(F_VERSION_1));
    driver.set8(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    assert_ne!(driver.status() & NEEDS_RESET, 0);
}

#[test]
fn a_reset_returns_everything_to_the_start_and_a_driver_may_start_again() {
    let recorder = Recorder::default();
    let (machine, slot) = machine_with(&recorder);
    let mut driver = MockDriver::bind(&machine, slot);
    driver.start(F_VERSION_1, &[16, 8]);
    recorder.activation.lock().unwrap().as_ref().unwrap().interrupt.needs_reset();
    assert_ne!(driver.status() & NEEDS_RESET, 0);
    driver.set8(STATUS, 0);
    assert_eq!(driver.status(), 0);
    assert_eq!(*recorder.resets.lock().unwrap(), 1);
    driver.set16(QUEUE_SELECT, 0);
    assert_eq!(driver.get(QUEUE_SIZE, 2), 64);
    assert_eq!(driver.get(QUEUE_ENABLE, 2), 0);
    assert_eq!(driver.get(QUEUE_DESC, 8), 0);
    assert_eq!(driver.get(QUEUE_VECTOR, 2), 0xffff);
    assert_eq!(driver.get(CONFIG_VECTOR, 2), 0xffff);

    driver.set8(STATUS, 0);
    assert_eq!(*recorder.resets.lock().unwrap(), 1, "a device at rest is not reset");
    driver.start(F_VERSION_1, &[8]);
    assert!(recorder.is_active());
}

#[test]
fn a_vector_that_does_not_exist_reads_back_as_none() {
    let (machine, slot) = machine_with(&Recorder::default());
    let driver = MockDriver::bind(&machine, slot);
    driver.set16(CONFIG_VECTOR, 2);
    assert_eq!(driver.get(CONFIG_VECTOR, 2), 2);
    driver.set16(CONFIG_VECTOR, 3);
    assert_eq!(driver.get(CONFIG_VECTOR, 2), 0xffff);
    driver.set16(QUEUE_SELECT, 7);
    driver.set16(QUEUE_VECTOR, 1);
    assert_eq!(driver.get(QUEUE_VECTOR, 2), 0xffff);
    assert_eq!(driver.get(QUEUE_SIZE, 2), 0, "there is no such queue");
}

#[test]
fn a_removed_device_is_reset_and_leaves_no_doorbell() {
    let recorder = Recorder::default();
    let (machine, slot) = machine_with(&recorder);
    let mut driver = MockDriver::bind(&machine, slot);
    driver.start(F_VERSION_1, &[16, 8]);
    assert_eq!(machine.hypervisor.doorbell_addresses(), [driver.doorbell(0), driver.doorbell(1)]);
    machine.pci.remove(slot);
    assert!(!recorder.is_active());
    assert!(machine.hypervisor.doorbell_addresses().is_empty());

    let again = machine.add(recorder.clone());
    assert_eq!(again, slot);
    MockDriver::bind(&machine, again).start(F_VERSION_1, &[16]);
    assert!(recorder.is_active());
}

proptest! {
    #[test]
    fn no_access_to_the_region_does_harm(
        accesses in prop::collection::vec(
            (prop_oneof![0u64..0x40, 0u64..0x4000], 1usize..=8, any::<[u8; 8]>()),
            1..300,
        ),
    ) {
        let recorder = Recorder::default();
        let (machine, slot) = machine_with(&recorder);
        let mut driver = MockDriver::bind(&machine, slot);
        for (offset, length, bytes) in accesses {
            machine.mmio.write(driver.region + offset, &bytes[..length]);
            machine.mmio.read(driver.region + offset, &mut [0; 8][..length]);
        }
        driver.start(F_VERSION_1, &[16]);
        prop_assert!(recorder.is_active());
    }
}
