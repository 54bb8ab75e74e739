//! Virtio over PCI (virtio 1.3 §4.1), modern only: one memory region that holds all a driver needs.
//!
//! ```text
//! 0x0000  common configuration     registers.rs → status.rs, the one status machine
//! 0x0040  ISR status               reads as zero: only INTx would use it
//! 0x0100  device configuration     the device
//! 0x1000  MSI-X table              pci/msix.rs
//! 0x1800  MSI-X pending bits
//! 0x2000  doorbells, 4 bytes each  ioeventfds; a write that reaches us rings the same event
//! ```
//!
//! There is no PCI configuration access capability (§4.1.4.9), which is for firmware that cannot reach memory
//! regions: no firmware runs here.

mod doorbell_area;
mod interrupts;
mod registers;
mod state;
#[cfg(test)]
mod state_tests;
mod status;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::hold::Hold;
use crate::memory::Memory;
use crate::pci::msix::{self, Msix};
use crate::pci::{Capability, Identity, PciFunction, Resources, RestoreError};
use crate::virtio::device::VirtioDevice;
use crate::virtio::pci::doorbell_area::DoorbellArea;
use crate::virtio::pci::interrupts::Interrupts;
use crate::virtio::pci::registers::{COMMON_LENGTH, Selectors};
use crate::virtio::pci::state::VirtioState;
use crate::virtio::pci::status::StatusMachine;

const COMMON: u64 = 0x0000;
const ISR: u64 = 0x0040;
const DEVICE: u64 = 0x0100;
const MSIX_TABLE: u64 = 0x1000;
const MSIX_PENDING: u64 = 0x1800;
const DOORBELLS: u64 = 0x2000;
const REGION: u64 = 0x4000;

/// Bytes between two queues' doorbells (notify_off_multiplier).
const DOORBELL_STRIDE: u64 = 4;

/// virtio 1.3 §4.1.4: the types of configuration structures.
const CAP_COMMON: u8 = 1;
const CAP_NOTIFY: u8 = 2;
const CAP_ISR: u8 = 3;
const CAP_DEVICE: u8 = 4;

/// What the driver reaches by registers.
struct DriverSide {
    selectors: Selectors,
    machine: StatusMachine,
}

/// A virtio device as a PCI function.
pub struct VirtioPci {
    device_type: u16,
    queues: u16,
    interrupts: Arc<Interrupts>,
    driver_side: Mutex<DriverSide>,
    /// `None` before the function is placed and after it is removed.
    doorbells: Mutex<Option<DoorbellArea>>,
}

impl VirtioPci {
    /// The device's queues lie in `memory`.
    pub fn new(device: Box<dyn VirtioDevice>, memory: Memory) -> Self {
        let queues = u16::try_from(device.queue_sizes().len()).unwrap_or(u16::MAX);
        let interrupts = Arc::new(Interrupts::new(queues));
        Self {
            device_type: u16::try_from(device.device_type()).unwrap_or_default(),
            queues,
            driver_side: Mutex::new(DriverSide {
                selectors: Selectors::default(),
                machine: StatusMachine::new(device, memory, Arc::clone(&interrupts)),
            }),
            interrupts,
            doorbells: Mutex::new(None),
        }
    }

    /// One for each queue, one for changes of configuration and status.
    fn vectors(&self) -> u16 {
        self.queues.saturating_add(1)
    }

    fn driver_side(&self) -> MutexGuard<'_, DriverSide> {
        self.driver_side.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn doorbells(&self) -> MutexGuard<'_, Option<DoorbellArea>> {
        self.doorbells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PciFunction for VirtioPci {
    /// virtio 1.3 §4.1.2.
    fn identity(&self) -> Identity {
        Identity {
            vendor: 0x1af4,
            device: 0x1040 + self.device_type,
            subsystem_vendor: 0x1af4,
            subsystem: 0x40,
            revision: 1,
            class: 0xff_00_00,
        }
    }

    fn region_size(&self) -> u64 {
        REGION
    }

    fn capabilities(&self) -> Vec<Capability> {
        let doorbells = DOORBELL_STRIDE * u64::from(self.queues);
        vec![
            structure(CAP_COMMON, COMMON, COMMON_LENGTH, None),
            structure(CAP_ISR, ISR, 1, None),
            structure(CAP_DEVICE, DEVICE, MSIX_TABLE - DEVICE, None),
            structure(CAP_NOTIFY, DOORBELLS, doorbells, Some(DOORBELL_STRIDE)),
            Msix::capability(self.vectors(), dword(MSIX_TABLE), dword(MSIX_PENDING)),
        ]
    }

    fn place(&mut self, base: u64, resources: &Resources) -> io::Result<()> {
        self.interrupts.msix.allocate(&*resources.msi, self.vectors())?;
        let area = DoorbellArea::attach(&resources.doorbells, base + DOORBELLS, self.queues)?;
        self.driver_side().machine.set_doorbells(area.events());
        *self.doorbells() = Some(area);
        Ok(())
    }

    fn capability_written(&self, id: u8, body: &[u8]) {
        if id == msix::CAPABILITY_ID {
            self.interrupts.msix.capability_written(body);
        }
    }

    fn read(&self, offset: u64, data: &mut [u8]) {
        match offset {
            COMMON..ISR => {
                let DriverSide { selectors, machine } = &*self.driver_side();
                selectors.read(machine, offset - COMMON, data);
            }
            DEVICE..MSIX_TABLE => self.driver_side().machine.read_config(offset - DEVICE, data),
            MSIX_TABLE..MSIX_PENDING => self.interrupts.msix.read_table(offset - MSIX_TABLE, data),
            MSIX_PENDING..DOORBELLS => self.interrupts.msix.read_pending(offset - MSIX_PENDING, data),
            _ => {}
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        match offset {
            COMMON..ISR => {
                let DriverSide { selectors, machine } = &mut *self.driver_side();
                selectors.write(machine, offset - COMMON, data);
            }
            MSIX_TABLE..MSIX_PENDING => self.interrupts.msix.write_table(offset - MSIX_TABLE, data),
            DOORBELLS.. => {
                if let Some(doorbells) = &*self.doorbells() {
                    doorbells.ring(offset - DOORBELLS);
                }
            }
            _ => {}
        }
    }

    fn save(&self) -> (Vec<u8>, Option<Hold>) {
        let DriverSide { selectors, machine } = &mut *self.driver_side();
        let (driver, hold) = machine.save();
        let state = VirtioState {
            device_type: self.device_type,
            selectors: selectors.0,
            driver,
            msix: self.interrupts.msix.save(),
        };
        // It fails only where there is no more memory, which ends the process.
        (postcard::to_allocvec(&state).unwrap_or_default(), hold)
    }

    fn restore(&self, state: &[u8]) -> Result<(), RestoreError> {
        let state: VirtioState = postcard::from_bytes(state).map_err(|_| RestoreError)?;
        if state.device_type != self.device_type {
            return Err(RestoreError);
        }
        self.interrupts.msix.restore(&state.msix)?;
        let DriverSide { selectors, machine } = &mut *self.driver_side();
        selectors.0 = state.selectors;
        machine.restore(&state.driver)
    }

    fn remove(&self) {
        self.driver_side().machine.remove();
        self.doorbells().take();
    }
}

/// Tells the driver where in region 0 a structure lies (virtio 1.3 §4.1.4).
fn structure(kind: u8, offset: u64, length: u64, multiplier: Option<u64>) -> Capability {
    const VENDOR_SPECIFIC: u8 = 0x09;
    let bytes = if multiplier.is_some() { 20 } else { 16 };
    let mut body = vec![bytes, kind, 0, 0, 0, 0];
    for field in [Some(offset), Some(length), multiplier].into_iter().flatten() {
        body.extend_from_slice(&dword(field).to_le_bytes());
    }
    Capability::read_only(VENDOR_SPECIFIC, body)
}

/// Offsets and lengths within the region need no more.
fn dword(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
