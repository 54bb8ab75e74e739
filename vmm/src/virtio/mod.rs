//! Virtio devices (virtio 1.3) over one PCI transport.
//!
//! `device` is the contract between the two. A device that only answers requests is
//! a [`RequestHandler`](queue_thread::RequestHandler) on a `queue_thread`.

pub mod balloon;
pub mod blk;
pub mod chain;
pub mod device;
pub mod fs;
pub mod mem;
#[cfg(test)]
pub(crate) mod mock_driver;
pub mod net;
pub mod pci;
pub mod pmem;
pub mod queue_thread;
pub mod rng;
mod transfer;
pub mod vsock;
