//! A function's 256 bytes of configuration space (PCI 3.0 §6.1): type 0 header and capability list.

use std::ops::Range;

use crate::pci::RestoreError;

const VENDOR: usize = 0x00;
const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const REVISION: usize = 0x08;
const SUBSYSTEM: usize = 0x2c;
const CAPABILITIES_POINTER: usize = 0x34;
const INTERRUPT_LINE: usize = 0x3c;
const FIRST_CAPABILITY: u8 = 0x40;

/// Memory space, bus master, interrupt disable. Drivers set them; nothing here depends on them.
const COMMAND_WRITABLE: u16 = 1 << 1 | 1 << 2 | 1 << 10;
const STATUS_CAPABILITIES: u16 = 1 << 4;

/// PCIe 6.0 §7.8.5.
const ENHANCED_ALLOCATION: u8 = 0x14;

/// What a function says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    pub vendor: u16,
    pub device: u16,
    pub subsystem_vendor: u16,
    pub subsystem: u16,
    pub revision: u8,
    /// Base class, sub-class, programming interface: three bytes, the first the highest.
    pub class: u32,
}

/// An entry of the capability list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    pub id: u8,
    /// What follows the id and the pointer to the next.
    pub body: Vec<u8>,
    /// Which bits of the body the guest may write; as long as the body.
    pub writable: Vec<u8>,
}

impl Capability {
    pub fn read_only(id: u8, body: Vec<u8>) -> Self {
        let writable = vec![0; body.len()];
        Self { id, body, writable }
    }

    /// One memory region at a fixed address, in the place of base address register 0.
    pub(super) fn fixed_region(base: u64, size: u64) -> Self {
        const ENTRIES: u8 = 1;
        /// Enabled; primary property "memory", no secondary one; four doublewords follow.
        const ENTRY: u32 = 1 << 31 | 0xff << 16 | 4;
        const WIDE: u64 = 1 << 1;

        let max_offset = size - 1;
        let mut body = vec![ENTRIES, 0];
        body.extend_from_slice(&ENTRY.to_le_bytes());
        for field in [base & !3 | WIDE, max_offset & !3 | WIDE, base >> 32, max_offset >> 32] {
            body.extend(field.to_le_bytes().into_iter().take(4));
        }
        Self::read_only(ENHANCED_ALLOCATION, body)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the function's capabilities do not fit its configuration space")]
pub struct TooManyCapabilities;

pub(super) struct ConfigSpace {
    bytes: [u8; 256],
    writable: [u8; 256],
    /// Id and body of each.
    writable_capabilities: Vec<(u8, Range<usize>)>,
}

impl ConfigSpace {
    pub(super) fn new(identity: &Identity, capabilities: &[Capability]) -> Result<Self, TooManyCapabilities> {
        let mut space = Self { bytes: [0; 256], writable: [0; 256], writable_capabilities: Vec::new() };
        space.set(VENDOR, &identity.vendor.to_le_bytes());
        space.set(VENDOR + 2, &identity.device.to_le_bytes());
        space.set(REVISION, &(identity.class << 8 | u32::from(identity.revision)).to_le_bytes());
        space.set(SUBSYSTEM, &identity.subsystem_vendor.to_le_bytes());
        space.set(SUBSYSTEM + 2, &identity.subsystem.to_le_bytes());
        space.writable[COMMAND..COMMAND + 2].copy_from_slice(&COMMAND_WRITABLE.to_le_bytes());
        space.writable[INTERRUPT_LINE] = 0xff;
        space.link(capabilities)?;
        Ok(space)
    }

    fn set(&mut self, at: usize, value: &[u8]) {
        self.bytes[at..at + value.len()].copy_from_slice(value);
    }

    fn link(&mut self, capabilities: &[Capability]) -> Result<(), TooManyCapabilities> {
        let mut pointer = CAPABILITIES_POINTER;
        let mut at = FIRST_CAPABILITY;
        for capability in capabilities {
            let body = usize::from(at) + 2..usize::from(at) + 2 + capability.body.len();
            if body.end > self.bytes.len() {
                return Err(TooManyCapabilities);
            }
            self.bytes[pointer] = at;
            self.bytes[usize::from(at)] = capability.id;
            self.bytes[body.clone()].copy_from_slice(&capability.body);
            self.writable[body.clone()].copy_from_slice(&capability.writable);
            pointer = usize::from(at) + 1;
            at = u8::try_from(body.end.next_multiple_of(4)).map_err(|_| TooManyCapabilities)?;
            if capability.writable.iter().any(|mask| *mask != 0) {
                self.writable_capabilities.push((capability.id, body));
            }
        }
        if !capabilities.is_empty() {
            self.set(STATUS, &STATUS_CAPABILITIES.to_le_bytes());
        }
        Ok(())
    }

    pub(super) fn read(&self, offset: u8, data: &mut [u8]) {
        for (byte, value) in data.iter_mut().zip(self.bytes.iter().skip(usize::from(offset))) {
            *byte = *value;
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes over what the guest wrote. All else has to be the same.
    pub(super) fn restore(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        let same_length = bytes.len() == self.bytes.len();
        let differs = |((ours, theirs), mask): ((&u8, &u8), &u8)| (ours ^ theirs) & !mask != 0;
        if !same_length || self.bytes.iter().zip(bytes).zip(&self.writable).any(differs) {
            return Err(RestoreError);
        }
        self.bytes.copy_from_slice(bytes);
        Ok(())
    }

    /// Id and body of each capability the guest may write.
    pub(super) fn writable_capabilities(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.writable_capabilities.iter().filter_map(|(id, body)| Some((*id, self.bytes.get(body.clone())?)))
    }

    /// Writes what may be written, and returns id and body of the capability this changed or might have.
    pub(super) fn write(&mut self, offset: u8, data: &[u8]) -> Option<(u8, &[u8])> {
        let start = usize::from(offset);
        let end = start + data.len();
        for ((byte, mask), value) in self.bytes.iter_mut().zip(&self.writable).skip(start).zip(data) {
            *byte = *byte & !mask | value & mask;
        }
        let (id, body) =
            self.writable_capabilities.iter().find(|(_, body)| body.start < end && start < body.end)?;
        Some((*id, self.bytes.get(body.clone())?))
    }
}
