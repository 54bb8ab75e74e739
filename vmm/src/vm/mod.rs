//! The virtual machine as KVM sees it: created from a /dev/kvm that someone else opened, with the interrupt
//! controllers in the kernel and guest memory in its slots.

mod doorbells;
mod msi;

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;

use kvm_bindings::{KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VmFd};
use vm_memory::{Address, GuestMemoryRegion};

use crate::arch::layout;
use crate::file_memory::FileMemory;
use crate::memory::{self, Memory, Region};

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
    #[error("cannot use more memory for the guest")]
    Room(#[source] std::io::Error),
}

/// Behind those of RAM, of which there are two at most.
const FILES_SLOT: u32 = 2;
const FIRST_ROOM_SLOT: u32 = 3;

/// The room a VM may grow into opens by so many bytes: what Linux takes into use as one (a block of memory,
/// Documentation/admin-guide/mm/memory-hotplug.rst).
pub const ROOM_SLOT: u64 = 128 << 20;

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

/// Gives the guest its RAM, or begins or ends the log of one that has it. `memory` has to live as long as the VM runs.
pub fn set_memory(vm: &VmFd, memory: &Memory, writes: Writes) -> Result<(), VmError> {
    let flags = match writes {
        Writes::Logged => KVM_MEM_LOG_DIRTY_PAGES,
        Writes::NotLogged => 0,
    };
    for (slot, region) in (0u32..).zip(memory::ram(memory)) {
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

/// Lets the guest read files as memory at an address. They have to be mapped as long as the VM runs.
pub fn set_file_memory(vm: &VmFd, files: &FileMemory, address: u64) -> Result<(), VmError> {
    let slot = kvm_userspace_memory_region {
        slot: FILES_SLOT,
        flags: KVM_MEM_READONLY,
        guest_phys_addr: address,
        memory_size: files.length(),
        userspace_addr: files.address(),
    };
    // SAFETY: the slot is exactly one mapping of this process, and whoever calls keeps it mapped.
    unsafe { vm.set_user_memory_region(slot) }.map_err(|source| VmError::Memory { address, source })
}

/// Opens the room a VM may grow into, up to `to` bytes from its start and to a whole slot; says how much of it is open.
/// `room` has to live as long as the VM runs.
pub fn open_room(vm: &VmFd, room: &Region, to: u64) -> Result<u64, VmError> {
    while room.len() < to.min(room.size()) {
        let start = room.len();
        let address = room.start_addr().raw_value().saturating_add(start);
        let failed = |source| VmError::Memory { address, source };
        let slot = kvm_userspace_memory_region {
            slot: u32::try_from(start / ROOM_SLOT).unwrap_or(u32::MAX).saturating_add(FIRST_ROOM_SLOT),
            flags: 0,
            guest_phys_addr: address,
            memory_size: ROOM_SLOT,
            userspace_addr: (room.as_ptr() as u64).saturating_add(start),
        };
        // SAFETY: the slot is a part of one mapping of this process, whose size is a multiple of slots', and whoever calls
        // keeps it mapped.
        unsafe { vm.set_user_memory_region(slot) }.map_err(failed)?;
        room.open(start.saturating_add(ROOM_SLOT)).map_err(VmError::Room)?;
    }
    Ok(room.len())
}
