//! Virtio devices (virtio 1.3) over one PCI transport.

pub mod device;
