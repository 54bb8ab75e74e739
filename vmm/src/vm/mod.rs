//! The virtual machine as KVM sees it: created from a /dev/kvm that someone else opened, with the interrupt
//! controllers in the kernel and guest memory in its slots.

mod doorbells;
mod msi;

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;

use kvm_bindings::{KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VmFd};
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use crate::arch::layout;
use crate::file_memory::FileMemory;

pub use msi::KvmMsiRouter;

#[derive(Debug, thiserror::Error)]
pub enum VmError {
    #[error("the descriptor handed over as /dev/kvm is something else")]
    NotKvm(#[source] kvm_ioctls::Error),
    #[error("this host's KVM speaks API version {0}, not 12")]
    Version(i32),
    #[error("KVM cannot create a virtual machine")]
    Create(#[source] kvm_ioctls::Error),
    #[error("KVM cannot create the interrupt controllers")]
    InterruptControllers(#[source] kvm_ioctls::Error),
    #[error("KVM does not take guest memory at {address:#x}")]
    Memory { address: u64, source: kvm_ioctls::Error },
}

/// Takes the descriptor of /dev/kvm.
pub fn open(descriptor: OwnedFd) -> Result<Kvm, VmError> {
    const STABLE_API: i32 = 12;
    // SAFETY: the descriptor is owned, and so becomes the Kvm's alone.
    let kvm = unsafe { Kvm::from_raw_fd(descriptor.into_raw_fd()) };
    match kvm.get_api_version() {
        STABLE_API => Ok(kvm),
        version if version < 0 => Err(VmError::NotKvm(kvm_ioctls::Error::last())),
        version => Err(VmError::Version(version)),
    }
}

/// Creates the VM with its interrupt controllers; it has neither memory nor vCPUs yet.
pub fn create(kvm: &Kvm) -> Result<Arc<VmFd>, VmError> {
    let vm = loop {
        match kvm.create_vm() {
            // KVM starts a kernel thread for the VM, and any signal may interrupt that.
            Err(error) if error.errno() == libc::EINTR => {}
            other => break other.map_err(VmError::Create)?,
        }
    };
    vm.set_identity_map_address(layout::KVM_IDENTITY_MAP).map_err(VmError::Create)?;
    vm.set_tss_address(layout::KVM_TSS).map_err(VmError::Create)?;
    vm.create_irq_chip().map_err(VmError::InterruptControllers)?;
    Ok(Arc::new(vm))
}

/// Whether KVM keeps a log of the pages the guest writes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    Logged,
    NotLogged,
}

/// Gives the guest its memory, or begins or ends the log of one that has it. `memory` has to live as long as the VM runs.
pub fn set_memory(vm: &VmFd, memory: &GuestMemoryMmap, writes: Writes) -> Result<(), VmError> {
    let flags = match writes {
        Writes::Logged => KVM_MEM_LOG_DIRTY_PAGES,
        Writes::NotLogged => 0,
    };
    for (slot, region) in (0u32..).zip(memory.iter()) {
        let address = region.start_addr().raw_value();
        let slot = kvm_userspace_memory_region {
            slot,
            flags,
            guest_phys_addr: address,
            memory_size: region.len(),
            userspace_addr: region.as_ptr() as u64,
        };
        // SAFETY: the slot is exactly one mapping of this process, and whoever calls keeps it mapped.
        unsafe { vm.set_user_memory_region(slot) }.map_err(|source| VmError::Memory { address, source })?;
    }
    Ok(())
}

/// Lets the guest read files as memory at an address; in the slot behind those of `ram`. They have to be mapped as
/// long as the VM runs.
pub fn set_file_memory(
    vm: &VmFd,
    ram: &GuestMemoryMmap,
    files: &FileMemory,
    address: u64,
) -> Result<(), VmError> {
    let slot = kvm_userspace_memory_region {
        slot: u32::try_from(ram.num_regions()).unwrap_or(u32::MAX),
        flags: KVM_MEM_READONLY,
        guest_phys_addr: address,
        memory_size: files.length(),
        userspace_addr: files.address(),
    };
    // SAFETY: the slot is exactly one mapping of this process, and whoever calls keeps it mapped.
    unsafe { vm.set_user_memory_region(slot) }.map_err(|source| VmError::Memory { address, source })
}
