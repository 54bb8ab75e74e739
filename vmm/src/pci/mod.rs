//! The PCI bus (PCI Local Bus 3.0): one host bridge, up to 31 functions that come and go, configuration
//! mechanism #1, MSI-X. What a device must be to sit on it is [`PciFunction`].
//!
//! Addresses are ours to give, and the guest cannot move them: each function's memory region is announced by
//! the Enhanced Allocation capability instead of a base address register. A kernel that finds a function by
//! rescanning the bus would give a base address register an address of its own choosing; a region that is
//! announced so it takes as it is.

mod bus;
mod config_ports;
mod config_space;
mod function;
mod host_bridge;
#[cfg(test)]
pub(crate) mod mock_hypervisor;
pub mod msix;
#[cfg(test)]
mod tests;
mod window;

pub use bus::{AddError, BusState, PciBus, Slot};
pub use config_space::{Capability, Identity};
pub use function::{PciFunction, Resources, RestoreError};
