//! Saves a VM whose memory is a file, as one recipe: the guest is stopped for good, then the devices, then all state is
//! written down.

use std::os::fd::OwnedFd;

use crate::arch::state::{ChipState, StateError};
use crate::saved::{SavedError, SavedVm, Shape};
use crate::stamps;
use crate::start::Running;

#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    #[error("only a VM that was started with a file as its memory can be saved")]
    NoMemoryFile,
    #[error("a VM that has disks cannot be saved")]
    Disks,
    #[error("the VM is saved already")]
    Stopped,
    #[error("KVM does not give the VM's state")]
    State(#[from] StateError),
    #[error(transparent)]
    Saved(#[from] SavedError),
}

/// The VM runs no more, whether this succeeds or not, unless it is one that cannot be saved.
pub fn save(running: &mut Running, to: &OwnedFd) -> Result<(), SaveError> {
    let saving = running.saving.as_ref().ok_or(SaveError::NoMemoryFile)?;
    if running.devices.has_disks() || running.file_memory.is_some() {
        return Err(SaveError::Disks);
    }
    let vcpus = running.vcpus.take().ok_or(SaveError::Stopped)?.stop();
    let pci = running.machine.pci.save();
    let chips = ChipState::of(&running.vm)?;
    let saved = SavedVm {
        shape: Shape { memory: saving.memory, taken: stamps::wall_clock() },
        chips,
        vcpus: vcpus.iter().map(|vcpu| vcpu.state(&saving.msrs)).collect::<Result<_, _>>()?,
        console: running.machine.console.state(),
        pci,
    };
    Ok(saved.write(to)?)
}
