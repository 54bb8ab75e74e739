//! What a device must be to sit on the PCI bus.

use std::io;
use std::sync::Arc;

use crate::hold::Hold;
use crate::interrupt::{Doorbells, MsiRouter};
use crate::pci::{Capability, Identity};

/// A PCI function with at most one memory region. The bus keeps its configuration space and tells it what
/// of that concerns it. Accesses come on vCPU threads, as for a [`BusDevice`](crate::bus::BusDevice).
pub trait PciFunction: Send + Sync {
    fn identity(&self) -> Identity;

    /// Bytes of memory region 0: zero for none, else a power of two of at least 4.
    fn region_size(&self) -> u64;

    /// Capabilities in the order in which the guest finds them.
    fn capabilities(&self) -> Vec<Capability> {
        Vec::new()
    }

    /// Called once, before the guest can see the function: its region begins at `base`.
    fn place(&mut self, _base: u64, _resources: &Resources) -> io::Result<()> {
        Ok(())
    }

    /// The guest wrote to the capability with this id, whose body is now `body`.
    fn capability_written(&self, _id: u8, _body: &[u8]) {}

    /// Fills `data`, which is zeroed, from `offset` within the region.
    fn read(&self, offset: u64, data: &mut [u8]);

    fn write(&self, offset: u64, data: &[u8]);

    /// What the function is to go on from, for [`restore`](Self::restore); nothing for one without state. It touches
    /// guest memory no more until its hold is let go, and never if that is dropped.
    fn save(&self) -> (Vec<u8>, Option<Hold>) {
        (Vec::new(), None)
    }

    /// Goes on from what the same function of another machine saved. Called before the guest runs.
    fn restore(&self, state: &[u8]) -> Result<(), RestoreError> {
        if state.is_empty() { Ok(()) } else { Err(RestoreError) }
    }

    /// The function has left the bus: when this returns, it touches guest memory no more.
    fn remove(&self) {}
}

/// What was saved is not of this function, or makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the state of a device does not fit it")]
pub struct RestoreError;

/// What the hypervisor lends to functions.
#[derive(Clone)]
pub struct Resources {
    pub doorbells: Arc<dyn Doorbells>,
    pub msi: Arc<dyn MsiRouter>,
}
