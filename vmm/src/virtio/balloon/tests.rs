//! Reports of free pages by a driver, honest and not.

#![allow(clippy::cast_possible_truncation, reason = "a test panics where it is wrong")]

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, memfd_create};

use super::{Balloon, F_PAGE_REPORTING};
use crate::ending::Ending;
use crate::memory::{Memory, allocate, from_file, in_file};
use crate::pci::Slot;
use crate::virtio::mock_driver::*;
use crate::virtio::queue_thread::ThreadPlan;

const BYTES: u64 = MEMORY as u64;
/// Behind all queues.
const FREE: u64 = 0x80_0000;
const PAGE: u64 = 4096;
const FEATURES: u64 = F_VERSION_1 | F_PAGE_REPORTING;
const QUEUES: [u16; 3] = [16, 16, 32];
const INFLATE: u16 = 0;
const DEFLATE: u16 = 1;
const REPORTING: u16 = 2;

fn machine(memory: Memory) -> (MockMachine, Slot) {
    let machine = MockMachine::with_memory(memory);
    let ending = Arc::new(Ending::new().unwrap());
    let plan = ThreadPlan { name: "balloon".to_owned(), confine: || Ok(()), ending };
    let slot = machine.add(Balloon::new(plan).unwrap());
    (machine, slot)
}

fn memory_file() -> (File, OwnedFd) {
    let file = File::from(memfd_create("memory", MemfdFlags::CLOEXEC).unwrap());
    let other = file.try_clone().unwrap().into();
    (file, other)
}

/// Sixteen pages that are not free.
fn fill(driver: &MockDriver<'_>) {
    driver.write_memory(FREE, &[0xaa; 16 * PAGE as usize]);
}

/// What these pages hold, each the same all over.
fn pages(driver: &MockDriver<'_>) -> Vec<u8> {
    let bytes = driver.read_memory(FREE, 16 * PAGE as usize);
    let page = |page: &[u8]| page.iter().all(|byte| *byte == page[0]).then_some(page[0]).unwrap();
    bytes.chunks(PAGE as usize).map(page).collect()
}

fn report(driver: &mut MockDriver<'_>, buffers: &[(u64, u32, bool)]) {
    let head = driver.push(REPORTING, buffers);
    driver.ring(REPORTING);
    assert_eq!(driver.wait_used(REPORTING), (head, 0));
}

#[test]
fn the_driver_finds_reporting_and_an_empty_balloon() {
    let (machine, slot) = machine(allocate(BYTES).unwrap());
    assert_eq!(machine.config(slot.number(), 2, 2), 0x1045);
    let mut driver = MockDriver::bind(&machine, slot);
    assert_eq!(driver.offered_features() & 0xff_ffff, F_PAGE_REPORTING);
    driver.start(FEATURES, &QUEUES);
    for offset in [0, 4, 8, 12] {
        assert_eq!(driver.device_config(offset, 4), 0);
    }
}

#[test]
fn reported_pages_are_given_back() {
    let (machine, slot) = machine(allocate(BYTES).unwrap());
    let mut driver = MockDriver::bind(&machine, slot);
    driver.start(FEATURES, &QUEUES);
    fill(&driver);
    report(&mut driver, &[(FREE, 4096, true), (FREE + 2 * PAGE, 3 * 4096, true)]);
    assert_eq!(pages(&driver)[..6], [0, 0xaa, 0, 0, 0, 0xaa]);
    // They can be used again, and be freed again.
    fill(&driver);
    assert_eq!(pages(&driver), [0xaa; 16]);
    report(&mut driver, &[(FREE, 16 * 4096, true)]);
    assert_eq!(pages(&driver), [0; 16]);
}

#[test]
fn a_report_may_be_as_long_as_the_queue_and_lie_apart_from_it() {
    let (machine, slot) = machine(allocate(BYTES).unwrap());
    let mut driver = MockDriver::bind(&machine, slot);
    driver.start(FEATURES | F_INDIRECT, &QUEUES);
    fill(&driver);
    let ranges: Vec<_> = (0..32).map(|page| (FREE + (page % 16) * PAGE, 4096, true)).collect();
    report(&mut driver, &ranges);
    assert_eq!(pages(&driver), [0; 16]);
    fill(&driver);
    // A table of its own, longer than any queue: what is behind the longest report is not looked at.
    let table = 0x40_0000;
    for entry in 0..100 {
        let page = if entry < 32 { entry % 8 } else { 8 };
        let next = u16::try_from(entry).unwrap() + 1;
        driver.write_descriptor(table + 16 * entry, FREE + page * PAGE, 4096, WRITE | NEXT, next);
    }
    driver.set_descriptor(REPORTING, 0, table, 16 * 100, INDIRECT, 0);
    driver.make_available(REPORTING, 0);
    driver.ring(REPORTING);
    assert_eq!(driver.wait_used(REPORTING), (0, 0));
    assert_eq!(pages(&driver)[..10], [0, 0, 0, 0, 0, 0, 0, 0, 0xaa, 0xaa]);
}

#[test]
fn pages_of_a_file_become_holes_and_those_a_file_was_copied_to_its_content() {
    let (file, other) = memory_file();
    let (machine_of_file, slot) = machine(in_file(BYTES, other).unwrap());
    let mut driver = MockDriver::bind(&machine_of_file, slot);
    driver.start(FEATURES, &QUEUES);
    fill(&driver);
    let before = file.metadata().unwrap().blocks();
    report(&mut driver, &[(FREE, 8 * 4096, true)]);
    assert_eq!(before - file.metadata().unwrap().blocks(), 64);
    assert_eq!(pages(&driver)[7..9], [0, 0xaa]);

    let memory = from_file(BYTES, file.try_clone().unwrap().into()).unwrap();
    let (machine_from_file, slot) = machine(memory);
    let mut driver = MockDriver::bind(&machine_from_file, slot);
    driver.start(FEATURES, &QUEUES);
    driver.write_memory(FREE, &[0xbb; 16 * PAGE as usize]);
    report(&mut driver, &[(FREE, 12 * 4096, true)]);
    assert_eq!(pages(&driver)[7..13], [0, 0xaa, 0xaa, 0xaa, 0xaa, 0xbb]);
}

#[test]
fn what_is_no_whole_free_page_of_the_guests_is_left_alone() {
    let (machine, slot) = machine(allocate(BYTES).unwrap());
    let mut driver = MockDriver::bind(&machine, slot);
    driver.start(FEATURES, &QUEUES);
    fill(&driver);
    for buffer in [
        (FREE, 4096, false),
        (FREE, 0, true),
        (FREE, 4095, true),
        (FREE + 1, 8190, true),
        (FREE, u32::MAX, true),
        (BYTES - PAGE, 8192, true),
        (BYTES, 4096, true),
        (0xc000_0000, 4096, true),
        (u64::MAX - 4095, 4096, true),
        (u64::MAX, u32::MAX, true),
    ] {
        report(&mut driver, &[buffer]);
        assert_eq!(pages(&driver), [0xaa; 16], "{buffer:x?}");
    }
    // Nor does it hold up the pages beside it.
    report(&mut driver, &[(u64::MAX, 1, true), (FREE, 4096, true), (FREE + PAGE, 4096, false)]);
    assert_eq!(pages(&driver)[..2], [0, 0xaa]);
}

#[test]
fn a_queue_that_reports_itself_free_harms_the_guest_alone() {
    let (machine, slot) = machine(allocate(BYTES).unwrap());
    let mut driver = MockDriver::bind(&machine, slot);
    driver.start(FEATURES, &QUEUES);
    let last = 0xf_f000;
    driver.write_memory(last, &[1]);
    driver.push(REPORTING, &[(0x1_0000, 0xf_0000, true)]);
    driver.ring(REPORTING);
    while driver.read_memory(last, 1) != [0] {
        std::thread::yield_now();
    }
    driver.start(FEATURES, &QUEUES);
    fill(&driver);
    report(&mut driver, &[(FREE, 4096, true)]);
    assert_eq!(pages(&driver)[..2], [0, 0xaa]);
}

#[test]
fn pages_offered_to_the_balloon_are_handed_back_as_they_are() {
    let (machine, slot) = machine(allocate(BYTES).unwrap());
    let mut driver = MockDriver::bind(&machine, slot);
    driver.start(FEATURES, &QUEUES);
    fill(&driver);
    for (queue, writable) in [(INFLATE, false), (DEFLATE, false), (INFLATE, true), (DEFLATE, true)] {
        let head = driver.push(queue, &[(FREE, 4096, writable)]);
        driver.ring(queue);
        assert_eq!(driver.wait_used(queue), (head, 0));
    }
    assert_eq!(pages(&driver), [0xaa; 16]);
}

#[test]
fn a_driver_without_reporting_needs_no_queue_for_it() {
    let (machine, slot) = machine(allocate(BYTES).unwrap());
    let mut driver = MockDriver::bind(&machine, slot);
    driver.start(F_VERSION_1, &QUEUES[..2]);
    let head = driver.push(INFLATE, &[(FREE, 4, false)]);
    driver.ring(INFLATE);
    assert_eq!(driver.wait_used(INFLATE), (head, 0));
}

#[test]
fn a_saved_driver_goes_on_reporting() {
    let (first, slot) = machine(allocate(BYTES).unwrap());
    let mut driver = MockDriver::bind(&first, slot);
    driver.start(FEATURES, &QUEUES);
    fill(&driver);
    report(&mut driver, &[(FREE, 4096, true)]);
    let (state, _holds) = first.pci.save();
    let (second, _) = machine(first.memory.clone());
    second.pci.restore(&state).unwrap();
    let mut driver = driver.moved_to(&second);
    for page in [2, 4] {
        report(&mut driver, &[(FREE + page * PAGE, 4096, true)]);
    }
    assert_eq!(pages(&driver)[..6], [0, 0xaa, 0, 0xaa, 0, 0xaa]);
    let head = driver.push(DEFLATE, &[(FREE, 4, false)]);
    driver.ring(DEFLATE);
    assert_eq!(driver.wait_used(DEFLATE), (head, 0));
}
