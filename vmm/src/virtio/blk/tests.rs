//! The disk driven through its transport, by drivers that keep the rules and drivers that do not.

#![allow(clippy::cast_possible_truncation, reason = "a test panics where it is wrong")]

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::NamedTempFile;

use super::{Access, Blk, Disk, DiskError};
use crate::ending::Ending;
use crate::pci::Slot;
use crate::virtio::mock_driver::*;
use crate::virtio::queue_thread::ThreadPlan;

const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;
/// What a status byte holds before the device writes it.
const UNTOUCHED: u8 = 0xee;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

const SECTORS: u64 = 128;

/// Where the driver keeps a request's parts in guest memory.
const HEADER: u64 = 0x10_0000;
const DATA: u64 = 0x20_0000;
const STATUS_BYTE: u64 = 0x30_0000;

struct Rig {
    file: NamedTempFile,
    machine: MockMachine,
    slot: Slot,
}

/// A disk of [`SECTORS`] sectors, each full of its own number.
fn rig(access: Access) -> Rig {
    let file = NamedTempFile::new().unwrap();
    let content: Vec<u8> = (0..SECTORS).flat_map(|sector| [sector as u8; 512]).collect();
    std::fs::write(file.path(), content).unwrap();
    let machine = MockMachine::new();
    let slot = add(&machine, vec![open(&file, access)], access);
    Rig { file, machine, slot }
}

fn add(machine: &MockMachine, files: Vec<OwnedFd>, access: Access) -> Slot {
    let disk = Disk::new(files, access).unwrap();
    let plan =
        ThreadPlan { name: "blk".to_owned(), confine: || Ok(()), ending: Arc::new(Ending::new().unwrap()) };
    machine.add(Blk::new(disk, "serial-of-disk", plan).unwrap())
}

fn open(file: &NamedTempFile, access: Access) -> OwnedFd {
    File::options().read(true).write(access == Access::Writable).open(file.path()).unwrap().into()
}

impl Rig {
    fn driver(&self) -> MockDriver<'_> {
        let mut driver = MockDriver::bind(&self.machine, self.slot);
        driver.start(F_VERSION_1 | F_INDIRECT, &[64]);
        driver
    }

    fn content(&self) -> Vec<u8> {
        std::fs::read(self.file.path()).unwrap()
    }
}

fn put_header(driver: &MockDriver<'_>, request: u32, sector: u64) {
    let mut header = request.to_le_bytes().to_vec();
    header.extend([0; 4]);
    header.extend(sector.to_le_bytes());
    driver.write_memory(HEADER, &header);
    driver.write_memory(STATUS_BYTE, &[UNTOUCHED]);
}

/// Sends a request whose data are these buffers; its status and used length.
fn request(driver: &mut MockDriver<'_>, kind: u32, sector: u64, data: &[(u64, u32, bool)]) -> (u8, u32) {
    put_header(driver, kind, sector);
    let mut buffers = vec![(HEADER, 16, false)];
    buffers.extend(data);
    buffers.push((STATUS_BYTE, 1, true));
    let used = send(driver, &buffers);
    (driver.read_memory(STATUS_BYTE, 1)[0], used)
}

fn send(driver: &mut MockDriver<'_>, buffers: &[(u64, u32, bool)]) -> u32 {
    let head = driver.push(0, buffers);
    driver.ring(0);
    let (used_head, used) = driver.wait_used(0);
    assert_eq!(used_head, head);
    used
}

fn range(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    let mut segment = sector.to_le_bytes().to_vec();
    segment.extend(sectors.to_le_bytes());
    segment.extend(flags.to_le_bytes());
    segment
}

#[test]
fn the_configuration_tells_size_and_limits() {
    let rig = rig(Access::Writable);
    let driver = rig.driver();
    assert_eq!(driver.device_config(0, 8), SECTORS);
    assert_eq!(driver.device_config(12, 4), 126);
    assert_eq!(driver.device_config(20, 4), 512);
    assert_ne!(driver.device_config(36, 4), 0);
    assert_eq!(driver.device_config(0x200, 8), 0);
}

#[test]
fn sectors_are_read_into_any_number_of_buffers() {
    let rig = rig(Access::ReadOnly);
    let mut driver = rig.driver();
    let buffers = [(DATA, 100, true), (DATA + 0x1000, 0, true), (DATA + 0x2000, 924, true)];
    assert_eq!(request(&mut driver, IN, 3, &buffers), (OK, 1025));
    assert_eq!(driver.read_memory(DATA, 100), [3; 100]);
    assert_eq!(driver.read_memory(DATA + 0x2000, 412), [3; 412]);
    assert_eq!(driver.read_memory(DATA + 0x2000 + 412, 512), [4; 512]);
}

#[test]
fn files_end_to_end_are_one_disk() {
    let files: Vec<NamedTempFile> = [4_u8, 0, 1, 3]
        .into_iter()
        .scan(0, |next, sectors| {
            let numbers = *next..*next + sectors;
            *next += sectors;
            let file = NamedTempFile::new().unwrap();
            let content: Vec<u8> = numbers.flat_map(|sector| [sector; 512]).collect();
            std::fs::write(file.path(), content).unwrap();
            Some(file)
        })
        .collect();
    let machine = MockMachine::new();
    let opened = files.iter().map(|file| open(file, Access::ReadOnly)).collect();
    let slot = add(&machine, opened, Access::ReadOnly);
    let mut driver = MockDriver::bind(&machine, slot);
    driver.start(F_VERSION_1 | F_INDIRECT, &[64]);
    assert_eq!(driver.device_config(0, 8), 8);
    for first in 0..8_u8 {
        for count in 1..=8 - first {
            let length = u32::from(count) * 512;
            // Buffers whose bounds are none of the files'.
            let buffers = [(DATA, 100, true), (DATA + 100, length - 100, true)];
            assert_eq!(request(&mut driver, IN, first.into(), &buffers), (OK, length + 1));
            let expected: Vec<u8> = (first..first + count).flat_map(|sector| [sector; 512]).collect();
            assert_eq!(driver.read_memory(DATA, length as usize), expected, "{count} from {first}");
        }
    }
    assert_eq!(request(&mut driver, IN, 7, &[(DATA, 1024, true)]).0, IOERR);
}

#[test]
fn header_data_and_status_may_be_framed_in_any_way() {
    let rig = rig(Access::Writable);
    let mut driver = rig.driver();
    put_header(&driver, OUT, 5);
    driver.write_memory(HEADER + 16, &[0x77; 512]);
    let used = send(
        &mut driver,
        &[(HEADER, 7, false), (HEADER + 7, 200, false), (HEADER + 207, 321, false), (STATUS_BYTE, 1, true)],
    );
    assert_eq!((driver.read_memory(STATUS_BYTE, 1)[0], used), (OK, 1));
    assert_eq!(rig.content()[5 * 512..6 * 512], [0x77; 512]);

    put_header(&driver, IN, 6);
    let used = send(&mut driver, &[(HEADER, 16, false), (DATA, 513, true)]);
    assert_eq!(used, 513);
    assert_eq!(driver.read_memory(DATA, 512), [6; 512]);
    assert_eq!(driver.read_memory(DATA + 512, 1), [OK]);
}

#[test]
fn a_request_in_an_indirect_table_is_carried_out() {
    let rig = rig(Access::ReadOnly);
    let mut driver = rig.driver();
    put_header(&driver, IN, 9);
    let table = 0x40_0000;
    driver.write_descriptor(table, HEADER, 16, NEXT, 1);
    driver.write_descriptor(table + 16, DATA, 512, NEXT | WRITE, 2);
    driver.write_descriptor(table + 32, STATUS_BYTE, 1, WRITE, 0);
    driver.set_descriptor(0, 0, table, 48, INDIRECT, 0);
    driver.make_available(0, 0);
    driver.ring(0);
    assert_eq!(driver.wait_used(0), (0, 513));
    assert_eq!(driver.read_memory(DATA, 512), [9; 512]);
}

#[test]
fn what_is_written_is_in_the_file_and_flush_succeeds() {
    let rig = rig(Access::Writable);
    let mut driver = rig.driver();
    driver.write_memory(DATA, &[0xab; 1024]);
    assert_eq!(request(&mut driver, OUT, SECTORS - 2, &[(DATA, 1024, false)]), (OK, 1));
    assert_eq!(request(&mut driver, FLUSH, 0, &[]), (OK, 1));
    assert_eq!(rig.content()[(SECTORS as usize - 2) * 512..], [0xab; 1024]);
}

#[test]
fn the_serial_is_padded_to_twenty_bytes() {
    let rig = rig(Access::ReadOnly);
    let mut driver = rig.driver();
    driver.write_memory(DATA, &[0xff; 20]);
    assert_eq!(request(&mut driver, GET_ID, 0, &[(DATA, 20, true)]), (OK, 21));
    assert_eq!(driver.read_memory(DATA, 20), *b"serial-of-disk\0\0\0\0\0\0");
}

#[test]
fn discarded_and_zeroed_sectors_read_as_zeroes_and_the_disk_keeps_its_size() {
    let rig = rig(Access::Writable);
    let mut driver = rig.driver();
    for (kind, sector, flags) in [(DISCARD, 8, 0), (WRITE_ZEROES, 24, 0), (WRITE_ZEROES, 40, 1)] {
        driver.write_memory(DATA, &range(sector, 8, flags));
        assert_eq!(request(&mut driver, kind, 0, &[(DATA, 16, false)]), (OK, 1), "{kind} {flags}");
        let content = rig.content();
        assert_eq!(content.len() as u64, SECTORS * 512);
        let at = sector as usize * 512;
        assert!(content[at..at + 8 * 512].iter().all(|byte| *byte == 0));
        assert_eq!(content[at - 1], sector as u8 - 1);
        assert_eq!(content[at + 8 * 512], sector as u8 + 8);
    }
}

#[test]
fn a_read_only_disk_says_so_and_changes_nothing() {
    let rig = rig(Access::ReadOnly);
    let mut driver = rig.driver();
    assert_eq!(driver.offered_features() & 0xffff, 1 << 2 | 1 << 5 | 1 << 6);
    let before = rig.content();
    driver.write_memory(DATA, &[0xab; 512]);
    assert_eq!(request(&mut driver, OUT, 0, &[(DATA, 512, false)]), (IOERR, 1));
    driver.write_memory(DATA, &range(0, 8, 0));
    assert_eq!(request(&mut driver, DISCARD, 0, &[(DATA, 16, false)]), (IOERR, 1));
    assert_eq!(request(&mut driver, WRITE_ZEROES, 0, &[(DATA, 16, false)]), (IOERR, 1));
    assert_eq!(rig.content(), before);
}

#[test]
fn the_descriptor_must_be_open_as_the_disk_is_stated() {
    let file = NamedTempFile::new().unwrap();
    let disk = |opened, stated| Disk::new(vec![open(&file, opened)], stated).map(drop);
    assert!(matches!(disk(Access::Writable, Access::ReadOnly), Err(DiskError::WritableDescriptor)));
    assert!(matches!(disk(Access::ReadOnly, Access::Writable), Err(DiskError::ReadOnlyDescriptor)));
    std::fs::write(file.path(), [0; 700]).unwrap();
    assert!(matches!(disk(Access::ReadOnly, Access::ReadOnly), Err(DiskError::Size(700))));
    let null = File::open("/dev/null").unwrap().into();
    assert!(matches!(Disk::new(vec![null], Access::ReadOnly), Err(DiskError::NoDisk)));
}

#[test]
fn requests_beyond_the_disk_or_of_broken_sectors_fail() {
    let rig = rig(Access::Writable);
    let mut driver = rig.driver();
    let before = rig.content();
    for (sector, length) in [(SECTORS, 512), (SECTORS - 1, 1024), (u64::MAX, 512), (1 << 55, 512), (0, 511)] {
        assert_eq!(request(&mut driver, IN, sector, &[(DATA, length, true)]).0, IOERR, "{sector} {length}");
        assert_eq!(request(&mut driver, OUT, sector, &[(DATA, length, false)]).0, IOERR, "{sector} {length}");
    }
    for (sector, sectors) in [(SECTORS, 1), (0, SECTORS as u32 + 1), (u64::MAX, 8)] {
        driver.write_memory(DATA, &range(sector, sectors, 0));
        assert_eq!(request(&mut driver, DISCARD, 0, &[(DATA, 16, false)]).0, IOERR, "{sector} {sectors}");
    }
    driver.write_memory(DATA, &range(0, 1, 1 << 4));
    assert_eq!(request(&mut driver, WRITE_ZEROES, 0, &[(DATA, 16, false)]).0, UNSUPP);
    assert_eq!(request(&mut driver, 99, 0, &[]).0, UNSUPP);
    assert_eq!(rig.content(), before);
}

#[test]
fn hostile_chains_are_given_back_and_the_disk_goes_on() {
    let rig = rig(Access::Writable);
    let before = rig.content();
    let mut driver = rig.driver();
    let far = MEMORY as u64;
    let chains: &[&[(u64, u32, bool)]] = &[
        &[(HEADER, 0, false)],
        &[(HEADER, 16, true)],
        &[(HEADER, 15, false), (STATUS_BYTE, 1, true)],
        &[(HEADER, 16, false)],
        &[(HEADER, 16, false), (DATA, 512, false)],
        &[(HEADER, 16, false), (DATA, 512, true), (STATUS_BYTE, 0, true)],
        &[(HEADER, 16, false), (STATUS_BYTE, 1, true), (DATA, 512, false)],
        &[(far, 16, false), (STATUS_BYTE, 1, true)],
        &[(u64::MAX, 16, false), (STATUS_BYTE, 1, true)],
        &[(HEADER, 16, false), (far - 256, 512, true), (STATUS_BYTE, 1, true)],
        &[(HEADER, 16, false), (DATA, u32::MAX, true), (STATUS_BYTE, 1, true)],
        &[(HEADER, 16, false), (DATA, 512, true), (far, 1, true)],
    ];
    for chain in chains {
        put_header(&driver, OUT, 0);
        send(&mut driver, chain);
    }
    assert_eq!(rig.content(), before);
    assert_eq!(request(&mut driver, IN, 1, &[(DATA, 512, true)]), (OK, 513));
}

#[test]
fn a_chain_that_loops_ends_and_a_head_offered_twice_is_answered_twice() {
    let rig = rig(Access::ReadOnly);
    let mut driver = rig.driver();
    put_header(&driver, IN, 0);
    driver.set_descriptor(0, 0, HEADER, 16, NEXT, 1);
    driver.set_descriptor(0, 1, DATA, 512, NEXT | WRITE, 1);
    driver.make_available(0, 0);
    driver.make_available(0, 0);
    driver.make_available(0, 0xffff);
    driver.ring(0);
    assert_eq!(driver.wait_used(0).0, 0);
    assert_eq!(driver.wait_used(0).0, 0);
    driver.wait_needs_reset();
}

#[test]
fn an_available_index_beyond_the_queue_asks_for_a_reset_and_a_reset_heals() {
    let rig = rig(Access::ReadOnly);
    let mut driver = rig.driver();
    driver.set_available_index(0, 65);
    driver.ring(0);
    driver.wait_needs_reset();
    driver.start(F_VERSION_1, &[64]);
    assert_eq!(request(&mut driver, IN, 2, &[(DATA, 512, true)]), (OK, 513));
}

#[test]
fn after_a_reset_no_doorbell_makes_the_device_touch_memory() {
    let rig = rig(Access::ReadOnly);
    let mut driver = rig.driver();
    driver.set8(STATUS, 0);
    put_header(&driver, IN, 2);
    driver.push(0, &[(HEADER, 16, false), (DATA, 512, true), (STATUS_BYTE, 1, true)]);
    driver.ring(0);
    driver.start(F_VERSION_1, &[64]);
    assert_eq!(request(&mut driver, IN, 3, &[(DATA + 0x1000, 512, true)]), (OK, 513));
    assert_eq!(driver.read_memory(DATA, 1), [0]);
}

#[test]
fn with_event_idx_the_driver_chooses_when_it_is_called() {
    let rig = rig(Access::ReadOnly);
    let mut driver = MockDriver::bind(&rig.machine, rig.slot);
    driver.start(F_VERSION_1 | F_EVENT_IDX, &[64]);
    put_header(&driver, IN, 0);
    let chain = [(HEADER, 16, false), (DATA, 512, true), (STATUS_BYTE, 1, true)];
    driver.set_used_event(0, 2);
    for _ in 0..3 {
        driver.push(0, &chain);
    }
    driver.ring(0);
    assert_eq!(rig.machine.hypervisor.wait_interrupts(), [MockDriver::message(1)]);
    assert_eq!(driver.used_index(0), 3);
}

#[test]
fn a_disk_can_be_removed_at_work_and_another_takes_its_slot() {
    let rig = rig(Access::Writable);
    let mut driver = rig.driver();
    assert_eq!(request(&mut driver, IN, 2, &[(DATA, 512, true)]), (OK, 513));
    put_header(&driver, IN, 2);
    for _ in 0..20 {
        driver.push(0, &[(HEADER, 16, false), (DATA, 512, true), (STATUS_BYTE, 1, true)]);
    }
    driver.ring(0);
    rig.machine.pci.remove(rig.slot);
    driver.write_memory(DATA, &[0x55; 512]);
    assert_eq!(driver.read_memory(DATA, 512), [0x55; 512], "the disk let go of memory");
    assert_eq!(rig.machine.config(rig.slot.number(), 0, 4), 0xffff_ffff);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_descriptor_table_stops_the_disk(
        descriptors in prop::collection::vec(
            (
                prop_oneof![Just(HEADER), Just(DATA), 0..MEMORY as u64, any::<u64>()],
                prop_oneof![Just(16u32), Just(512), Just(1), 0..4096u32, any::<u32>()],
                0u16..8,
                0u16..20,
            ),
            16,
        ),
        header in (prop_oneof![0u32..14, any::<u32>()], prop_oneof![0..SECTORS + 2, any::<u64>()]),
        heads in prop::collection::vec(0u16..20, 1..16),
    ) {
        let rig = rig(Access::Writable);
        let mut driver = rig.driver();
        put_header(&driver, header.0, header.1);
        for (index, (address, length, flags, next)) in (0..).zip(descriptors) {
            driver.set_descriptor(0, index, address, length, flags, next);
        }
        for head in heads {
            driver.make_available(0, head);
        }
        driver.ring(0);
        driver.start(F_VERSION_1, &[64]);
        prop_assert_eq!(request(&mut driver, IN, 2, &[(DATA, 512, true)]), (OK, 513));
        prop_assert_eq!(rig.content().len() as u64, SECTORS * 512);
    }
}
