//! Saves a VM, in two steps: first all of it stands, its state at hand; then the state is written down. A VM whose
//! memory is a file ends with that (a template); any other has its memory copied behind its back and runs on (a
//! snapshot). Between the steps the supervisor copies the disks.

use std::os::fd::OwnedFd;

use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use crate::arch::state::{ChipState, StateError};
use crate::hold::Hold;
use crate::memory;
use crate::memory_copy::MemoryCopy;
use crate::pci::BusState;
use crate::saved::{SavedError, SavedVm, Shape};
use crate::stamps;
use crate::start::Running;
use crate::vcpu::Vcpu;

#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    #[error("only a VM that was started with a file as its memory can be saved for good")]
    NoMemoryFile,
    #[error("a VM whose memory is a file cannot be saved and run on")]
    MemoryFile,
    #[error("a VM that has disks cannot be saved for good")]
    Disks,
    #[error("a VM that shares files with the host cannot be copied")]
    SharesFiles,
    #[error("a VM that has more memory than it was launched with cannot be copied: set its limit back first")]
    Grown,
    #[error("a VM that has more vCPUs than it was launched with cannot be copied")]
    GrownVcpus,
    #[error("the VM is being saved")]
    Busy,
    #[error("the VM is not held")]
    NotHeld,
    #[error("the VM runs no more")]
    Stopped,
    #[error("KVM does not give the VM's state")]
    State(#[from] StateError),
    #[error(transparent)]
    Saved(#[from] SavedError),
    #[error("cannot begin to copy the VM's memory")]
    Memory(#[source] std::io::Error),
}

/// A VM that stands, and what it is to go on from. Dropped, its devices give up.
pub struct Standing {
    vcpus: Vec<Vcpu>,
    devices: Vec<Hold>,
    saved: SavedVm,
}

/// Has all of the VM stand.
pub fn hold(running: &mut Running) -> Result<(), SaveError> {
    if running.standing.is_some() || running.copying.is_some() {
        return Err(SaveError::Busy);
    }
    // What the guest knows of the host's files is also the server's state.
    if running.devices.shares_files() {
        return Err(SaveError::SharesFiles);
    }
    let vcpus = running.vcpus.as_ref().ok_or(SaveError::Stopped)?.hold();
    let (pci, devices) = running.machine.pci.save();
    match not_grown(running, &vcpus).and_then(|()| state(running, &vcpus, pci)) {
        Ok(saved) => {
            running.standing = Some(Standing { vcpus, devices, saved });
            Ok(())
        }
        Err(error) => {
            go_on(running, vcpus, devices);
            Err(error)
        }
    }
}

/// Lets a VM that was held run on.
pub fn release(running: &mut Running) {
    if let Some(Standing { vcpus, devices, .. }) = running.standing.take() {
        go_on(running, vcpus, devices);
    }
}

/// Writes down the state of a VM that was held, and lets it run on while its memory is copied. It does so as well if
/// this fails.
pub fn snapshot(running: &mut Running, to: &OwnedFd, memory: &OwnedFd) -> Result<MemoryCopy, SaveError> {
    let begun = begin_snapshot(running, to, memory);
    release(running);
    begun
}

fn begin_snapshot(running: &Running, to: &OwnedFd, memory: &OwnedFd) -> Result<MemoryCopy, SaveError> {
    if running.saving.memory_is_file {
        return Err(SaveError::MemoryFile);
    }
    let standing = running.standing.as_ref().ok_or(SaveError::NotHeld)?;
    standing.saved.write(to)?;
    MemoryCopy::begin(&running.machine.memory, memory).map_err(SaveError::Memory)
}

/// Saves a VM whose memory is a file. It runs no more, whether this succeeds or not, unless it is one that cannot be
/// saved so.
pub fn save(running: &mut Running, to: &OwnedFd) -> Result<(), SaveError> {
    if !running.saving.memory_is_file {
        return Err(SaveError::NoMemoryFile);
    }
    if running.devices.has_disks() || running.file_memory.as_ref().is_some_and(|memory| memory.filled() > 0) {
        return Err(SaveError::Disks);
    }
    hold(running)?;
    let standing = running.standing.take().ok_or(SaveError::NotHeld)?;
    running.stop_vcpus();
    if let Some(file) = running.machine.memory.iter().find_map(|region| region.file_offset()) {
        // Clones fault more often without them.
        let _ = memory::make_large(file.file());
    }
    Ok(standing.saved.write(to)?)
}

/// Of memory to be saved there is RAM alone, and what goes on has as many vCPUs as it is said to have. Once all stands that
/// cannot change.
fn not_grown(running: &Running, vcpus: &[Vcpu]) -> Result<(), SaveError> {
    let mem = &running.devices.mem;
    if vcpus.len() > running.saving.vcpus {
        return Err(SaveError::GrownVcpus);
    }
    if mem.plugged() == 0 && mem.requested() == 0 { Ok(()) } else { Err(SaveError::Grown) }
}

fn state(running: &Running, vcpus: &[Vcpu], pci: BusState) -> Result<SavedVm, SaveError> {
    // A guest that ends meanwhile has vCPUs that stand for another reason.
    if vcpus.is_empty() || running.machine.ending.reason().is_some() {
        return Err(SaveError::Stopped);
    }
    let saving = &running.saving;
    let (taken, chips, vcpus) = stamps::at_one_moment(|moment| {
        let chips = ChipState::of(&running.vm)?;
        let vcpus = vcpus.iter().map(|vcpu| vcpu.state(&saving.msrs));
        Ok::<_, StateError>((moment, chips, vcpus.collect::<Result<_, _>>()?))
    })?;
    Ok(SavedVm {
        shape: Shape { memory: saving.memory, most_vcpus: running.cpuid.cpus(), taken },
        chips,
        vcpus,
        console: running.machine.console.state(),
        seats: running.devices.saved_seats(running.file_memory.as_ref()),
        pci,
    })
}

fn go_on(running: &Running, vcpus: Vec<Vcpu>, devices: Vec<Hold>) {
    devices.into_iter().for_each(Hold::go_on);
    if let Some(running) = &running.vcpus {
        running.go_on(vcpus);
    }
}
