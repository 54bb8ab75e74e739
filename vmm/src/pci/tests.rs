//! The bus as a guest's kernel sees it, through its ports and memory.

#![allow(clippy::cast_possible_truncation, reason = "a test panics where it is wrong")]

use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use crate::bus::Bus;
use crate::interrupt::MsiMessage;
use crate::pci::mock_hypervisor::MockHypervisor;
use crate::pci::msix::Msix;
use crate::pci::{AddError, Capability, Identity, PciBus, PciFunction};
use crate::virtio::mock_driver::MockMachine;

/// A function with one register of 16 bytes and a capability of which half may be written.
#[derive(Default)]
struct Scratch {
    register: Mutex<[u8; 16]>,
    capability: Arc<Mutex<Vec<u8>>>,
}

impl PciFunction for Scratch {
    fn identity(&self) -> Identity {
        Identity {
            vendor: 0x1234,
            device: 0x5678,
            subsystem_vendor: 0x9abc,
            subsystem: 0xdef0,
            revision: 7,
            class: 0x01_02_03,
        }
    }

    fn region_size(&self) -> u64 {
        16
    }

    fn capabilities(&self) -> Vec<Capability> {
        vec![Capability { id: 0x09, body: vec![1, 2], writable: vec![0, 0xf0] }]
    }

    fn capability_written(&self, id: u8, body: &[u8]) {
        assert_eq!(id, 0x09);
        *self.capability.lock().unwrap() = body.to_vec();
    }

    fn read(&self, offset: u64, data: &mut [u8]) {
        let offset = offset as usize;
        data.copy_from_slice(&self.register.lock().unwrap()[offset..offset + data.len()]);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let offset = offset as usize;
        self.register.lock().unwrap()[offset..offset + data.len()].copy_from_slice(data);
    }
}

#[test]
fn a_kernel_recognises_mechanism_1_and_the_host_bridge() {
    let machine = MockMachine::new();
    machine.ports.write(3, &[1]);
    machine.ports.write(0, &0x8000_0000u32.to_le_bytes());
    let mut address = [0; 4];
    machine.ports.read(0, &mut address);
    assert_eq!(u32::from_le_bytes(address), 0x8000_0000);
    assert_eq!(machine.config(0, 0x0a, 2), 0x0600);
}

#[test]
fn what_is_not_there_reads_as_ones() {
    let machine = MockMachine::new();
    machine.pci.add(Box::new(Scratch::default())).unwrap();
    assert_eq!(machine.config(2, 0, 4), 0xffff_ffff);
    let other_bus = 0x8001_0800u32;
    let other_function = 0x8000_0900u32;
    let disabled = 0x0000_0800u32;
    for address in [other_bus, other_function, disabled] {
        machine.ports.write(0, &address.to_le_bytes());
        let mut value = [0; 4];
        machine.ports.read(4, &mut value);
        assert_eq!(value, [0xff; 4], "{address:#x}");
    }
}

#[test]
fn a_header_is_read_in_any_width_and_keeps_what_is_fixed() {
    let machine = MockMachine::new();
    let slot = machine.pci.add(Box::new(Scratch::default())).unwrap().number();
    machine.set_config(slot, 0x00, &[0; 4]);
    assert_eq!(machine.config(slot, 0x00, 4), 0x5678_1234);
    assert_eq!(machine.config(slot, 0x02, 2), 0x5678);
    assert_eq!(machine.config(slot, 0x03, 1), 0x56);
    assert_eq!(machine.config(slot, 0x08, 4), 0x0102_0307);
    assert_eq!(machine.config(slot, 0x2c, 4), 0xdef0_9abc);
    machine.set_config(slot, 0x04, &[0xff; 2]);
    assert_eq!(machine.config(slot, 0x04, 2), 0x0406);
}

#[test]
fn the_region_is_where_the_header_says_and_cannot_be_moved() {
    let machine = MockMachine::new();
    let slot = machine.pci.add(Box::new(Scratch::default())).unwrap().number();
    for bar in (0x10..0x28).step_by(4) {
        machine.set_config(slot, bar, &[0xff; 4]);
        assert_eq!(machine.config(slot, bar, 4), 0, "base address register {bar:#x}");
    }
    let (base, size) = machine.region(slot);
    let announcement = machine.capabilities(slot, 0x14)[0];
    machine.set_config(slot, announcement + 8, &[0xff; 4]);
    assert_eq!(machine.region(slot), (base, size));
    assert_eq!(size, 16);
    machine.mmio.write(base + 4, &[1, 2]);
    assert_eq!(machine.read(base, 8), 0x0201_0000_0000);
}

#[test]
fn a_function_hears_of_writes_to_its_capability() {
    let machine = MockMachine::new();
    let scratch = Scratch::default();
    let capability = Arc::clone(&scratch.capability);
    let slot = machine.pci.add(Box::new(scratch)).unwrap().number();
    let at = machine.capabilities(slot, 0x09)[0];
    machine.set_config(slot, at + 2, &[0xff, 0xff]);
    assert_eq!(*capability.lock().unwrap(), [1, 0xf2]);
    assert_eq!(machine.config(slot, at + 2, 2), 0xf201);
}

#[test]
fn slots_and_addresses_of_removed_functions_serve_again() {
    let machine = MockMachine::new();
    let slots: Vec<_> = (0..31).map(|_| machine.pci.add(Box::new(Scratch::default())).unwrap()).collect();
    assert!(matches!(machine.pci.add(Box::new(Scratch::default())), Err(AddError::NoSlot)));
    let (base, _) = machine.region(slots[4].number());
    machine.pci.remove(slots[4]);
    assert_eq!(machine.config(slots[4].number(), 0, 4), 0xffff_ffff);
    assert_eq!(machine.read(base, 4), 0xffff_ffff);

    assert_eq!(machine.pci.add(Box::new(Scratch::default())).unwrap(), slots[4]);
    assert_eq!(machine.region(slots[4].number()).0, base);
}

#[test]
fn a_full_window_refuses_and_keeps_its_slots() {
    let hypervisor = Arc::new(MockHypervisor::default());
    let mmio = Arc::new(Bus::default());
    let pci = PciBus::new(mmio, Arc::clone(&hypervisor) as _, hypervisor, 0x1000..0x2000).unwrap();
    let slot = pci.add(Box::new(Scratch::default())).unwrap();
    assert!(matches!(pci.add(Box::new(Scratch::default())), Err(AddError::NoRoom(16))));
    pci.remove(slot);
    assert_eq!(pci.add(Box::new(Scratch::default())).unwrap(), slot);
}

/// Two vectors of which the second is programmed and open, as are enable bit and function mask.
fn msix() -> (Arc<MockHypervisor>, Msix) {
    let hypervisor = Arc::new(MockHypervisor::default());
    let msix = Msix::default();
    msix.allocate(&*hypervisor, 2).unwrap();
    control(&msix, 0x80);
    msix.write_table(16, &0xfee0_1000u64.to_le_bytes());
    msix.write_table(24, &[9, 0, 0, 0]);
    msix.write_table(28, &[0; 4]);
    (hypervisor, msix)
}

fn control(msix: &Msix, bits: u8) {
    msix.capability_written(&[1, bits, 0, 0, 0, 0, 0, 0, 0, 0]);
}

fn pending(msix: &Msix) -> u8 {
    let mut bits = [0];
    msix.read_pending(0, &mut bits);
    bits[0]
}

const MESSAGE: MsiMessage = MsiMessage { address: 0xfee0_1000, data: 9 };

#[test]
fn an_open_vector_delivers_its_message() {
    let (hypervisor, msix) = msix();
    msix.raise(1);
    assert_eq!(hypervisor.take_interrupts(), [MESSAGE]);
    assert_eq!(pending(&msix), 0);
    msix.raise(2);
    msix.raise(0xffff);
    assert_eq!(hypervisor.take_interrupts(), []);
}

#[test]
fn a_masked_vector_delivers_once_when_it_is_unmasked() {
    let (hypervisor, msix) = msix();
    msix.write_table(28, &[1, 0, 0, 0]);
    msix.raise(1);
    msix.raise(1);
    assert_eq!(hypervisor.take_interrupts(), []);
    assert_eq!(pending(&msix), 0b10);
    msix.write_table(28, &[0; 4]);
    assert_eq!(hypervisor.take_interrupts(), [MESSAGE]);
    assert_eq!(pending(&msix), 0);
}

#[test]
fn the_function_mask_holds_all_vectors_back() {
    let (hypervisor, msix) = msix();
    control(&msix, 0xc0);
    msix.raise(1);
    assert_eq!(hypervisor.take_interrupts(), []);
    assert_eq!(pending(&msix), 0b10);
    control(&msix, 0x80);
    assert_eq!(hypervisor.take_interrupts(), [MESSAGE]);
}

#[test]
fn a_function_without_msix_interrupts_nobody() {
    let (hypervisor, msix) = msix();
    control(&msix, 0);
    msix.raise(1);
    control(&msix, 0x80);
    assert_eq!(hypervisor.take_interrupts(), []);
}

#[test]
fn vectors_are_masked_until_the_driver_opens_them() {
    let (hypervisor, msix) = msix();
    msix.raise(0);
    assert_eq!(hypervisor.take_interrupts(), []);
    assert_eq!(pending(&msix), 0b01);
}

proptest! {
    #[test]
    fn no_access_to_the_ports_does_harm(
        accesses in prop::collection::vec((any::<u32>(), 0u64..8, 1usize..=8, any::<[u8; 8]>()), 1..200),
    ) {
        let machine = MockMachine::new();
        let slot = machine.pci.add(Box::new(Scratch::default())).unwrap().number();
        for (address, offset, length, bytes) in accesses {
            machine.ports.write(0, &(address | 1 << 31).to_le_bytes());
            machine.ports.write(offset, &bytes[..length]);
            machine.ports.read(offset, &mut [0; 8][..length]);
        }
        prop_assert_eq!(machine.config(slot, 0, 4), 0x5678_1234);
    }

    #[test]
    fn no_access_to_an_msix_table_does_harm(
        accesses in prop::collection::vec((any::<u64>(), 0usize..=8, any::<[u8; 8]>(), any::<u8>()), 1..100),
    ) {
        let (_, msix) = msix();
        for (offset, length, bytes, bits) in accesses {
            msix.write_table(offset % 64, &bytes[..length]);
            msix.read_table(offset, &mut [0; 8][..length]);
            msix.read_pending(offset, &mut [0; 8][..length]);
            control(&msix, bits);
            msix.raise(u16::from(bits));
        }
    }
}
