//! How much memory a running VM has: RAM from the start, and of the room behind that as much as was asked for last.

use vmm_api::{MEMORY_BLOCK, MEMORY_ROOM};

use crate::memory;
use crate::start::Running;
use crate::vm::{self, VmError};

#[derive(Debug, thiserror::Error)]
pub enum ResizeError {
    #[error("a VM's memory can grow by {MEMORY_ROOM} bytes, not by {0}")]
    TooMuch(u64),
    #[error(transparent)]
    Vm(#[from] VmError),
}

/// Has the guest take so many bytes beside its RAM, or give back what it has beyond that.
pub fn resize(running: &Running, bytes: u64) -> Result<(), ResizeError> {
    let too_much = ResizeError::TooMuch(bytes);
    let room = memory::room(&running.machine.memory).filter(|room| bytes <= room.size()).ok_or(too_much)?;
    let wanted = bytes.next_multiple_of(MEMORY_BLOCK);
    let open = vm::open_room(&running.vm, room, wanted)?;
    running.devices.mem.request(wanted, open);
    Ok(())
}
