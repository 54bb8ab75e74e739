//! A driver for tests: finds a device's structures over PCI configuration, negotiates, sets up real virtqueues
//! in real guest memory, and rings doorbells, as a kernel does.

#![allow(clippy::cast_possible_truncation, reason = "a test panics where it is wrong")]

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use vm_memory::{Bytes, GuestAddress};

use crate::bus::{Bus, BusDevice};
use crate::interrupt::MsiMessage;
use crate::memory::{self, Memory};
use crate::pci::mock_hypervisor::MockHypervisor;
use crate::pci::{PciBus, Slot};
use crate::virtio::device::VirtioDevice;
use crate::virtio::pci::VirtioPci;

/// 16 MiB of guest memory.
pub(crate) const MEMORY: usize = 16 << 20;
const WINDOW: std::ops::Range<u64> = 0xc000_0000..0xc100_0000;

pub(crate) const F_VERSION_1: u64 = 1 << 32;
pub(crate) const F_EVENT_IDX: u64 = 1 << 29;
pub(crate) const F_INDIRECT: u64 = 1 << 28;

pub(crate) const ACKNOWLEDGE: u8 = 1;
pub(crate) const DRIVER: u8 = 2;
pub(crate) const DRIVER_OK: u8 = 4;
pub(crate) const FEATURES_OK: u8 = 8;
pub(crate) const NEEDS_RESET: u8 = 64;

/// Registers of the common configuration.
pub(crate) const DEVICE_FEATURE_SELECT: u64 = 0x00;
pub(crate) const DEVICE_FEATURE: u64 = 0x04;
pub(crate) const DRIVER_FEATURE_SELECT: u64 = 0x08;
pub(crate) const DRIVER_FEATURE: u64 = 0x0c;
pub(crate) const CONFIG_VECTOR: u64 = 0x10;
pub(crate) const STATUS: u64 = 0x14;
pub(crate) const CONFIG_GENERATION: u64 = 0x15;
pub(crate) const QUEUE_SELECT: u64 = 0x16;
pub(crate) const QUEUE_SIZE: u64 = 0x18;
pub(crate) const QUEUE_VECTOR: u64 = 0x1a;
pub(crate) const QUEUE_ENABLE: u64 = 0x1c;
pub(crate) const QUEUE_DESC: u64 = 0x20;
pub(crate) const QUEUE_DRIVER: u64 = 0x28;
pub(crate) const QUEUE_DEVICE: u64 = 0x30;

/// Descriptor flags.
pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

/// A machine with nothing but memory and a PCI bus.
pub(crate) struct MockMachine {
    pub(crate) memory: Memory,
    pub(crate) mmio: Arc<Bus>,
    pub(crate) pci: Arc<PciBus>,
    pub(crate) ports: Arc<dyn BusDevice>,
    pub(crate) hypervisor: Arc<MockHypervisor>,
}

impl MockMachine {
    pub(crate) fn new() -> Self {
        Self::with_memory(memory::allocate(MEMORY as u64).unwrap())
    }

    /// A machine with the memory another one has.
    pub(crate) fn with_memory(memory: Memory) -> Self {
        let mmio = Arc::new(Bus::default());
        let hypervisor = Arc::new(MockHypervisor::default());
        let pci = PciBus::new(
            Arc::clone(&mmio),
            Arc::clone(&hypervisor) as _,
            Arc::clone(&hypervisor) as _,
            WINDOW,
        )
        .unwrap();
        let ports = pci.config_ports();
        Self { memory, mmio, pci, ports, hypervisor }
    }

    pub(crate) fn add(&self, device: impl VirtioDevice + 'static) -> Slot {
        self.pci.add(Box::new(VirtioPci::new(Box::new(device), self.memory.clone()))).unwrap()
    }

    /// Reads a little-endian register of configuration space.
    pub(crate) fn config(&self, slot: u8, register: u8, bytes: usize) -> u32 {
        self.ports.write(0, &(1 << 31 | u32::from(slot) << 11 | u32::from(register & 0xfc)).to_le_bytes());
        let mut value = [0; 4];
        self.ports.read(4 + u64::from(register & 3), &mut value[..bytes]);
        u32::from_le_bytes(value)
    }

    pub(crate) fn set_config(&self, slot: u8, register: u8, data: &[u8]) {
        self.ports.write(0, &(1 << 31 | u32::from(slot) << 11 | u32::from(register & 0xfc)).to_le_bytes());
        self.ports.write(4 + u64::from(register & 3), data);
    }

    /// Offsets of the capabilities with this id, in their order.
    pub(crate) fn capabilities(&self, slot: u8, id: u8) -> Vec<u8> {
        let mut at = self.config(slot, 0x34, 1) as u8;
        let mut found = Vec::new();
        while at != 0 {
            if self.config(slot, at, 1) as u8 == id {
                found.push(at);
            }
            at = self.config(slot, at + 1, 1) as u8;
        }
        found
    }

    /// Base and size of memory region 0.
    pub(crate) fn region(&self, slot: u8) -> (u64, u64) {
        let [at] = self.capabilities(slot, 0x14)[..] else { panic!("no region") };
        let dword = |offset| u64::from(self.config(slot, at + offset, 4));
        let base = dword(8) & !3 | dword(16) << 32;
        let max_offset = dword(12) | 3 | dword(20) << 32;
        (base, max_offset + 1)
    }

    pub(crate) fn read(&self, address: u64, bytes: usize) -> u64 {
        let mut value = [0; 8];
        self.mmio.read(address, &mut value[..bytes]);
        u64::from_le_bytes(value)
    }
}

/// A driver bound to one device.
pub(crate) struct MockDriver<'m> {
    pub(crate) machine: &'m MockMachine,
    pub(crate) slot: u8,
    pub(crate) region: u64,
    common: u64,
    doorbells: u64,
    stride: u64,
    device: u64,
    pub(crate) msix: u8,
    queues: Vec<MockQueue>,
}

/// A queue's place in guest memory and how far it is used.
struct MockQueue {
    base: u64,
    size: u16,
    next_descriptor: u16,
    next_used: u16,
}

const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;

impl<'m> MockDriver<'m> {
    /// Finds the structures, and programs MSI-X: vector `n` has address 0xfee00000 and data `n`.
    pub(crate) fn bind(machine: &'m MockMachine, slot: Slot) -> Self {
        let slot = slot.number();
        let (region, _) = machine.region(slot);
        let mut structures = [0; 5];
        let mut stride = 0;
        for at in machine.capabilities(slot, 0x09) {
            let kind = machine.config(slot, at + 3, 1) as usize;
            structures[kind] = region + u64::from(machine.config(slot, at + 8, 4));
            if kind == 2 {
                stride = u64::from(machine.config(slot, at + 16, 4));
            }
        }
        let [_, common, doorbells, _, device] = structures;
        let msix = machine.capabilities(slot, 0x11)[0];
        let driver =
            Self { machine, slot, region, common, doorbells, stride, device, msix, queues: Vec::new() };
        let vectors = (machine.config(slot, msix + 2, 2) & 0x7ff) as u16 + 1;
        machine.set_config(slot, msix + 2, &0x8000u16.to_le_bytes());
        for vector in 0..vectors {
            driver.set_vector(vector, 0xfee0_0000, u32::from(vector), false);
        }
        driver
    }

    /// The driver, on a machine that goes on from the state of its own.
    pub(crate) fn moved_to<'n>(self, machine: &'n MockMachine) -> MockDriver<'n> {
        let Self { machine: _, slot, region, common, doorbells, stride, device, msix, queues } = self;
        MockDriver { machine, slot, region, common, doorbells, stride, device, msix, queues }
    }

    pub(crate) fn msix_table(&self) -> u64 {
        self.region + u64::from(self.machine.config(self.slot, self.msix + 4, 4))
    }

    pub(crate) fn set_vector(&self, vector: u16, address: u64, data: u32, masked: bool) {
        let entry = self.msix_table() + 16 * u64::from(vector);
        self.machine.mmio.write(entry, &address.to_le_bytes());
        self.machine.mmio.write(entry + 8, &data.to_le_bytes());
        self.machine.mmio.write(entry + 12, &u32::from(masked).to_le_bytes());
    }

    /// The message `bind` gave to a vector.
    pub(crate) fn message(vector: u16) -> MsiMessage {
        MsiMessage { address: 0xfee0_0000, data: u32::from(vector) }
    }

    pub(crate) fn get(&self, register: u64, bytes: usize) -> u64 {
        self.machine.read(self.common + register, bytes)
    }

    pub(crate) fn set8(&self, register: u64, value: u8) {
        self.machine.mmio.write(self.common + register, &[value]);
    }

    pub(crate) fn set16(&self, register: u64, value: u16) {
        self.machine.mmio.write(self.common + register, &value.to_le_bytes());
    }

    pub(crate) fn set32(&self, register: u64, value: u32) {
        self.machine.mmio.write(self.common + register, &value.to_le_bytes());
    }

    pub(crate) fn set64(&self, register: u64, value: u64) {
        self.set32(register, value as u32);
        self.set32(register + 4, (value >> 32) as u32);
    }

    pub(crate) fn status(&self) -> u8 {
        self.get(STATUS, 1) as u8
    }

    /// Reads `bytes` of the device's own configuration.
    pub(crate) fn device_config(&self, offset: u64, bytes: usize) -> u64 {
        self.machine.read(self.device + offset, bytes)
    }

    pub(crate) fn config_generation(&self) -> u8 {
        self.get(CONFIG_GENERATION, 1) as u8
    }

    pub(crate) fn offered_features(&self) -> u64 {
        let word = |index| {
            self.set32(DEVICE_FEATURE_SELECT, index);
            self.get(DEVICE_FEATURE, 4)
        };
        word(0) | word(1) << 32
    }

    /// Up to FEATURES_OK; whether the device accepted.
    pub(crate) fn negotiate(&self, features: u64) -> bool {
        self.set8(STATUS, 0);
        self.set8(STATUS, ACKNOWLEDGE);
        self.set8(STATUS, ACKNOWLEDGE | DRIVER);
        self.set_features(features);
        self.set8(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
        self.status() & FEATURES_OK != 0
    }

    pub(crate) fn set_features(&self, features: u64) {
        for index in [0, 1] {
            self.set32(DRIVER_FEATURE_SELECT, index);
            self.set32(DRIVER_FEATURE, (features >> (32 * index)) as u32);
        }
    }

    /// Lays a queue out in memory and enables it; its interrupt is vector `index + 1`.
    pub(crate) fn set_up_queue(&mut self, index: u16, size: u16) {
        let base = 0x1_0000 * (u64::from(index) + 1);
        self.machine.memory.write_slice(&[0; 0x4000], GuestAddress(base)).unwrap();
        self.set16(QUEUE_SELECT, index);
        self.set16(QUEUE_SIZE, size);
        self.set16(QUEUE_VECTOR, index + 1);
        self.set64(QUEUE_DESC, base);
        self.set64(QUEUE_DRIVER, base + AVAILABLE);
        self.set64(QUEUE_DEVICE, base + USED);
        self.set16(QUEUE_ENABLE, 1);
        self.queues.push(MockQueue { base, size, next_descriptor: 0, next_used: 0 });
    }

    /// All the way to DRIVER_OK, with queues of these sizes.
    pub(crate) fn start(&mut self, features: u64, queues: &[u16]) {
        assert!(self.negotiate(features), "features refused");
        self.queues.clear();
        self.set16(CONFIG_VECTOR, 0);
        for (index, size) in (0..).zip(queues) {
            self.set_up_queue(index, *size);
        }
        self.set8(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
        assert_eq!(self.status(), ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    }

    /// Writes one descriptor as it is.
    pub(crate) fn set_descriptor(
        &self,
        queue: u16,
        index: u16,
        address: u64,
        length: u32,
        flags: u16,
        next: u16,
    ) {
        let at = self.queues[usize::from(queue)].base + 16 * u64::from(index);
        self.write_descriptor(at, address, length, flags, next);
    }

    pub(crate) fn write_descriptor(&self, at: u64, address: u64, length: u32, flags: u16, next: u16) {
        let mut bytes = address.to_le_bytes().to_vec();
        bytes.extend(length.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(next.to_le_bytes());
        self.machine.memory.write_slice(&bytes, GuestAddress(at)).unwrap();
    }

    /// Chains buffers, each an address, a length and whether the device may write it, and makes the chain
    /// available. Returns its head.
    pub(crate) fn push(&mut self, queue: u16, buffers: &[(u64, u32, bool)]) -> u16 {
        let state = &self.queues[usize::from(queue)];
        let size = state.size;
        let head = state.next_descriptor;
        for (position, (address, length, writable)) in buffers.iter().enumerate() {
            let index = (head + position as u16) % size;
            let more = position + 1 < buffers.len();
            let flags = if *writable { WRITE } else { 0 } | if more { NEXT } else { 0 };
            self.set_descriptor(queue, index, *address, *length, flags, (index + 1) % size);
        }
        self.queues[usize::from(queue)].next_descriptor = (head + buffers.len() as u16) % size;
        self.make_available(queue, head);
        head
    }

    pub(crate) fn make_available(&self, queue: u16, head: u16) {
        let state = &self.queues[usize::from(queue)];
        let memory = &self.machine.memory;
        let index_at = GuestAddress(state.base + AVAILABLE + 2);
        let index: u16 = memory.load(index_at, Ordering::Acquire).unwrap();
        let entry = state.base + AVAILABLE + 4 + 2 * u64::from(index % state.size);
        memory.write_obj(head, GuestAddress(entry)).unwrap();
        memory.store(index.wrapping_add(1), index_at, Ordering::Release).unwrap();
    }

    /// Sets the available ring's index, whatever there is.
    pub(crate) fn set_available_index(&self, queue: u16, index: u16) {
        let at = GuestAddress(self.queues[usize::from(queue)].base + AVAILABLE + 2);
        self.machine.memory.store(index, at, Ordering::Release).unwrap();
    }

    /// With event indices: the device interrupts when it uses the entry at this index.
    pub(crate) fn set_used_event(&self, queue: u16, index: u16) {
        let state = &self.queues[usize::from(queue)];
        let at = GuestAddress(state.base + AVAILABLE + 4 + 2 * u64::from(state.size));
        self.machine.memory.store(index, at, Ordering::Release).unwrap();
    }

    pub(crate) fn used_index(&self, queue: u16) -> u16 {
        let at = GuestAddress(self.queues[usize::from(queue)].base + USED + 2);
        self.machine.memory.load(at, Ordering::Acquire).unwrap()
    }

    pub(crate) fn doorbell(&self, queue: u16) -> u64 {
        self.doorbells + self.stride * u64::from(queue)
    }

    pub(crate) fn ring(&self, queue: u16) {
        assert!(self.machine.hypervisor.ring(self.doorbell(queue)), "no doorbell");
    }

    /// The next used chain's head and length, if there is one; otherwise the device interrupts when there is.
    pub(crate) fn take_used(&mut self, queue: u16) -> Option<(u16, u32)> {
        self.set_used_event(queue, self.queues[usize::from(queue)].next_used);
        fence(Ordering::SeqCst);
        let memory = &self.machine.memory;
        let state = &mut self.queues[usize::from(queue)];
        let index: u16 = memory.load(GuestAddress(state.base + USED + 2), Ordering::Acquire).unwrap();
        if index == state.next_used {
            return None;
        }
        let entry = state.base + USED + 4 + 8 * u64::from(state.next_used % state.size);
        let [head, length]: [u32; 2] = memory.read_obj(GuestAddress(entry)).unwrap();
        state.next_used = state.next_used.wrapping_add(1);
        Some((head as u16, length))
    }

    /// Waits for interrupts until a chain is used.
    pub(crate) fn wait_used(&mut self, queue: u16) -> (u16, u32) {
        let hypervisor = Arc::clone(&self.machine.hypervisor);
        hypervisor.wait(|| self.take_used(queue))
    }

    /// Waits until the device asks for a reset.
    pub(crate) fn wait_needs_reset(&self) {
        self.machine.hypervisor.wait(|| (self.status() & NEEDS_RESET != 0).then_some(()));
    }

    pub(crate) fn write_memory(&self, address: u64, bytes: &[u8]) {
        self.machine.memory.write_slice(bytes, GuestAddress(address)).unwrap();
    }

    pub(crate) fn read_memory(&self, address: u64, bytes: usize) -> Vec<u8> {
        let mut data = vec![0; bytes];
        self.machine.memory.read_slice(&mut data, GuestAddress(address)).unwrap();
        data
    }
}
