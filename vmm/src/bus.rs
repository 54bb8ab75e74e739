//! Where a vCPU's port I/O and MMIO accesses find their device.
//!
//! One [`Bus`] for ports, one for guest-physical addresses. Devices come and go while vCPUs run.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// A device behind a range of a bus. Called on a vCPU's thread, with an access a guest chose: any offset
/// within the range, any length a CPU can make (1 to 8 bytes).
pub trait BusDevice: Send + Sync {
    /// Fills `data`, which is zeroed, from `offset` within the device's range.
    fn read(&self, offset: u64, data: &mut [u8]);
    fn write(&self, offset: u64, data: &[u8]);
}

#[derive(Debug, thiserror::Error)]
#[error("{length:#x} bytes at {base:#x} of a bus overlap another device or the end of the address space")]
pub struct Overlap {
    pub base: u64,
    pub length: u64,
}

#[derive(Default)]
pub struct Bus {
    /// Ranges by their base; none overlap.
    ranges: RwLock<BTreeMap<u64, DeviceRange>>,
}

struct DeviceRange {
    length: u64,
    device: Arc<dyn BusDevice>,
}

impl Bus {
    pub fn insert(&self, base: u64, length: u64, device: Arc<dyn BusDevice>) -> Result<(), Overlap> {
        let overlap = Overlap { base, length };
        let end = match base.checked_add(length) {
            Some(end) if length > 0 => end,
            _ => return Err(overlap),
        };
        let mut ranges = self.ranges.write().unwrap_or_else(PoisonError::into_inner);
        if ranges.range(..end).next_back().is_some_and(|(other, range)| other + range.length > base) {
            return Err(overlap);
        }
        ranges.insert(base, DeviceRange { length, device });
        Ok(())
    }

    /// Takes the range that starts at `base` off the bus, if there is one.
    pub fn remove(&self, base: u64) {
        self.ranges.write().unwrap_or_else(PoisonError::into_inner).remove(&base);
    }

    /// Reads; an address without a device reads as all ones.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        match self.find(address, data.len()) {
            Some((device, offset)) => {
                data.fill(0);
                device.read(offset, data);
            }
            None => data.fill(0xff),
        }
    }

    /// Writes; an address without a device swallows it.
    pub fn write(&self, address: u64, data: &[u8]) {
        if let Some((device, offset)) = self.find(address, data.len()) {
            device.write(offset, data);
        }
    }

    fn find(&self, address: u64, length: usize) -> Option<(Arc<dyn BusDevice>, u64)> {
        let ranges = self.ranges.read().unwrap_or_else(PoisonError::into_inner);
        let (base, range) = ranges.range(..=address).next_back()?;
        let offset = address - base;
        let end = offset.checked_add(u64::try_from(length).ok()?)?;
        (end <= range.length).then(|| (Arc::clone(&range.device), offset))
    }
}
