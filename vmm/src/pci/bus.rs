//! The bus: which function sits in which slot, and where its memory region lies.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::bus::{Bus, BusDevice, Overlap};
use crate::hold::Hold;
use crate::interrupt::{Doorbells, MsiRouter};
use crate::pci::config_ports::ConfigPorts;
use crate::pci::config_space::{Capability, ConfigSpace, TooManyCapabilities};
use crate::pci::host_bridge::HostBridge;
use crate::pci::window::Window;
use crate::pci::{PciFunction, Resources, RestoreError};

const SLOTS: usize = 32;

/// The device number on bus 0, from 1: the host bridge has 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot(u8);

impl Slot {
    pub fn number(self) -> u8 {
        self.0
    }
}

#[derive(Debug, thiserror::Error)]
pub enum AddError {
    #[error("all 31 slots of the PCI bus are taken")]
    NoSlot,
    #[error("no room for {0:#x} bytes in the PCI memory window")]
    NoRoom(u64),
    #[error("cannot set up the function's doorbells and interrupt vectors")]
    Place(#[source] io::Error),
    #[error(transparent)]
    Capabilities(#[from] TooManyCapabilities),
    #[error(transparent)]
    Overlap(#[from] Overlap),
}

/// What the bus and its functions are to go on from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BusState {
    config_address: u32,
    functions: Vec<FunctionState>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FunctionState {
    slot: u8,
    config: Vec<u8>,
    device: Vec<u8>,
}

pub struct PciBus {
    /// What the guest wrote to the address port (PCI 3.0 §3.2.2.3.2).
    config_address: AtomicU32,
    mmio: Arc<Bus>,
    resources: Resources,
    occupancy: Mutex<Occupancy>,
}

struct Occupancy {
    slots: [Option<Arc<Seated>>; SLOTS],
    window: Window,
}

impl PciBus {
    /// A bus with its host bridge, whose functions' regions appear on `mmio` within `window`.
    pub fn new(
        mmio: Arc<Bus>,
        doorbells: Arc<dyn Doorbells>,
        msi: Arc<dyn MsiRouter>,
        window: Range<u64>,
    ) -> Result<Arc<Self>, AddError> {
        let mut slots = [const { None }; SLOTS];
        let host_bridge = ConfigSpace::new(&HostBridge.identity(), &[])?;
        slots[0] = Some(Arc::new(Seated {
            function: Box::new(HostBridge),
            config: Mutex::new(host_bridge),
            base: None,
        }));
        let occupancy = Mutex::new(Occupancy { slots, window: Window::new(window) });
        let resources = Resources { doorbells, msi };
        Ok(Arc::new(Self { config_address: AtomicU32::new(0), mmio, resources, occupancy }))
    }

    /// Configuration mechanism #1: belongs at ports 0xcf8 to 0xcff.
    pub fn config_ports(self: &Arc<Self>) -> Arc<dyn BusDevice> {
        Arc::new(ConfigPorts::new(Arc::clone(self)))
    }

    /// Seats a function; the guest sees it when it looks at the bus next.
    pub fn add(&self, function: Box<dyn PciFunction>) -> Result<Slot, AddError> {
        let mut occupancy = self.occupancy();
        let free = (1..SLOTS).find(|slot| matches!(occupancy.slots.get(*slot), Some(None)));
        let slot = free.and_then(|slot| u8::try_from(slot).ok()).ok_or(AddError::NoSlot)?;
        let size = function.region_size();
        let base = match size {
            0 => None,
            size => Some(occupancy.window.take(size).ok_or(AddError::NoRoom(size))?),
        };
        let seated = self.seat(function, size, base).inspect_err(|_| {
            if let Some(base) = base {
                occupancy.window.give_back(base);
            }
        })?;
        if let Some(seat) = occupancy.slots.get_mut(usize::from(slot)) {
            *seat = Some(seated);
        }
        Ok(Slot(slot))
    }

    fn seat(
        &self,
        mut function: Box<dyn PciFunction>,
        size: u64,
        base: Option<u64>,
    ) -> Result<Arc<Seated>, AddError> {
        let mut capabilities = function.capabilities();
        if let Some(base) = base {
            capabilities.insert(0, Capability::fixed_region(base, size));
            function.place(base, &self.resources).map_err(AddError::Place)?;
        }
        let config = Mutex::new(ConfigSpace::new(&function.identity(), &capabilities)?);
        let seated = Arc::new(Seated { function, config, base });
        if let Some(base) = base {
            self.mmio.insert(base, size, Arc::clone(&seated) as Arc<dyn BusDevice>)?;
        }
        Ok(seated)
    }

    /// Takes a function off the bus. A guest that was not told to let go of it first finds all ones there.
    pub fn remove(&self, slot: Slot) {
        let Some(seated) = self.occupancy().slots.get_mut(usize::from(slot.0)).and_then(Option::take) else {
            return;
        };
        if let Some(base) = seated.base {
            self.mmio.remove(base);
        }
        seated.function.remove();
        if let Some(base) = seated.base {
            self.occupancy().window.give_back(base);
        }
    }

    /// Of a machine whose vCPUs stand. Its functions do, too, until their holds are let go.
    pub fn save(&self) -> (BusState, Vec<Hold>) {
        let occupancy = self.occupancy();
        let (mut functions, mut holds) = (Vec::new(), Vec::new());
        for (slot, seated) in (0u8..).zip(&occupancy.slots) {
            let Some(seated) = seated else { continue };
            let (device, hold) = seated.function.save();
            functions.push(FunctionState { slot, config: seated.config().bytes().to_vec(), device });
            holds.extend(hold);
        }
        (BusState { config_address: self.config_address(), functions }, holds)
    }

    /// Goes on from the state of a bus that had the same functions in the same slots.
    pub fn restore(&self, state: &BusState) -> Result<(), RestoreError> {
        let occupied = self.occupancy().slots.iter().flatten().count();
        if occupied != state.functions.len() {
            return Err(RestoreError);
        }
        self.set_config_address(state.config_address);
        for FunctionState { slot, config, device } in &state.functions {
            let seated = self.seated(usize::from(*slot)).ok_or(RestoreError)?;
            seated.config().restore(config)?;
            for (id, body) in seated.config().writable_capabilities() {
                seated.function.capability_written(id, body);
            }
            seated.function.restore(device)?;
        }
        Ok(())
    }

    pub(super) fn config_address(&self) -> u32 {
        self.config_address.load(Ordering::Relaxed)
    }

    pub(super) fn set_config_address(&self, address: u32) {
        self.config_address.store(address, Ordering::Relaxed);
    }

    pub(super) fn read_config(&self, slot: usize, register: u8, data: &mut [u8]) {
        match self.seated(slot) {
            Some(seated) => seated.config().read(register, data),
            None => data.fill(0xff),
        }
    }

    pub(super) fn write_config(&self, slot: usize, register: u8, data: &[u8]) {
        if let Some(seated) = self.seated(slot)
            && let Some((id, body)) = seated.config().write(register, data)
        {
            seated.function.capability_written(id, body);
        }
    }

    fn seated(&self, slot: usize) -> Option<Arc<Seated>> {
        self.occupancy().slots.get(slot)?.clone()
    }

    fn occupancy(&self) -> MutexGuard<'_, Occupancy> {
        self.occupancy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A function in its slot.
struct Seated {
    function: Box<dyn PciFunction>,
    config: Mutex<ConfigSpace>,
    /// Of its memory region, if it has one.
    base: Option<u64>,
}

impl Seated {
    fn config(&self) -> MutexGuard<'_, ConfigSpace> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BusDevice for Seated {
    fn read(&self, offset: u64, data: &mut [u8]) {
        self.function.read(offset, data);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        self.function.write(offset, data);
    }
}
