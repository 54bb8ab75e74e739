//! The virtual machine monitor: KVM, guest memory, PCI and virtio devices for one sandbox.
//!
//! It knows nothing of containers or images. The `bulkhead-vmm` binary is this library and a main function.

#![deny(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss
)]

pub mod add_vcpus;
pub mod arch;
pub mod bus;
pub mod control;
pub mod devices;
pub mod ending;
pub mod error_chain;
pub mod file_memory;
pub mod hold;
pub mod interrupt;
pub mod jail;
pub mod launch;
pub mod machine;
pub mod memory;
pub mod memory_copy;
pub mod nets;
pub mod pci;
pub mod platform;
pub mod resize;
pub mod save;
pub mod saved;
pub mod stamps;
pub mod start;
pub mod streams;
pub mod vcpu;
pub mod virtio;
pub mod vm;
pub mod working_set;
