//! What a PCI device needs of the hypervisor: doorbells the guest can ring without leaving to user space,
//! and message-signalled interrupts. KVM answers in a VM, a mock in the devices' tests.

use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

/// ioeventfds: a guest's write of any value to an address becomes an event.
pub trait Doorbells: Send + Sync {
    fn attach(&self, address: u64, event: &EventFd) -> std::io::Result<()>;
    fn detach(&self, address: u64, event: &EventFd) -> std::io::Result<()>;
}

/// Hands out interrupt vectors. A vector is given back when dropped.
pub trait MsiRouter: Send + Sync {
    fn allocate(&self) -> std::io::Result<Box<dyn MsiVector>>;
}

/// What an MSI-X table entry tells the CPU (PCI 3.0 §6.8.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MsiMessage {
    pub address: u64,
    pub data: u32,
}

/// One vector: an irqfd and its route.
pub trait MsiVector: Send + Sync {
    /// Lets the vector deliver this message; `None` masks it.
    fn route(&self, message: Option<MsiMessage>) -> std::io::Result<()>;
    /// Raises the interrupt. A masked vector drops it: whoever masks keeps the pending bit.
    fn raise(&self) -> std::io::Result<()>;
    /// What raises it by each write from now on, for others than this process. While it is masked such writes wait.
    fn event(&self) -> std::io::Result<Arc<EventFd>>;
}
