//! A running sandbox's memory, which follows the limits of what runs in it: that of its VM, and what the host's cgroup lets
//! the VMM take.
//!
//! The VM's memory grows beyond what it was launched with, and shrinks back to that, as far as the guest gives it back.

use std::time::Duration;

use vmm_api::{MEMORY_BLOCK, MEMORY_ROOM, Reply, Request};

use crate::cgroup::{self, LimitError};
use crate::memory::{MIN_MEMORY, MemoryError, vm_memory};
use crate::sandbox::Sandbox;
use crate::vmm::{VmmError, VmmHandle};

/// How long the guest may take to use what it is given: a hundredth of it is enough, but on a busy host.
const GROWTH_LIMIT: Duration = Duration::from_secs(10);

/// How long is waited for what it gives back. It tries on by itself.
const SHRINK_LIMIT: Duration = Duration::from_secs(2);

/// The guest's kernel keeps 64 bytes for each page of 4096 it gets.
const MEMORY_PER_NOTES: u64 = 64;

#[derive(Debug, thiserror::Error)]
pub enum ResizeError {
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error(
        "a memory limit of {limit} bytes is more than the VM can grow to: start the container with it, or stay within {most}"
    )]
    TooMuch { limit: u64, most: u64 },
    #[error("the guest takes none of the {0} bytes of memory it is to have more")]
    NotTaken(u64),
    #[error(transparent)]
    Limits(#[from] LimitError),
    #[error("cannot change the VM's memory")]
    Vmm(#[from] VmmError),
}

/// How much memory a VM has, in bytes.
#[derive(Debug)]
pub(crate) struct Extent {
    launched: u64,
    /// Beyond that, as last asked of the guest.
    asked: u64,
    /// Beyond that, as the host's cgroup counts it.
    allowed: u64,
}

impl Extent {
    pub(crate) fn launched_with(memory: u64) -> Self {
        Self { launched: memory, asked: 0, allowed: 0 }
    }

    /// What the VM has to have beyond what it was launched with for containers limited to so many bytes.
    fn beyond(&self, limit: u64) -> Result<u64, ResizeError> {
        // One that the container would not have started with is no more than its cgroup's affair.
        let missing = vm_memory(Some(limit.max(MIN_MEMORY)))?.saturating_sub(self.launched);
        let with_notes = missing.saturating_add(missing / MEMORY_PER_NOTES);
        match with_notes.checked_next_multiple_of(MEMORY_BLOCK) {
            Some(beyond) if beyond <= MEMORY_ROOM => Ok(beyond),
            _ => Err(ResizeError::TooMuch { limit, most: self.launched.saturating_add(MEMORY_ROOM) }),
        }
    }
}

impl Sandbox {
    /// Has the VM's memory follow the limit of what runs in it, in bytes; it never has less than it was launched with. When
    /// this returns the guest has taken what it has more, or part of that, or given back what it can soon.
    pub async fn resize(&self, memory_limit: u64) -> Result<(), ResizeError> {
        let mut extent = self.extent.lock().await;
        let wanted = extent.beyond(memory_limit)?;
        if wanted == extent.asked {
            return Ok(());
        }
        let vmm = self.vmm.handle();
        let before = plugged(vmm).await?;
        self.allow(&mut extent, wanted.max(before))?;
        extent.asked = wanted;
        let after = plug(vmm, wanted, if wanted > before { GROWTH_LIMIT } else { SHRINK_LIMIT }).await?;
        self.allow(&mut extent, wanted.max(after))?;
        if wanted > before && after <= before {
            return Err(ResizeError::NotTaken(wanted - before));
        }
        Ok(())
    }

    /// Lets the VM have so much beyond what it was launched with.
    fn allow(&self, extent: &mut Extent, beyond: u64) -> Result<(), LimitError> {
        if let Some(cgroup) = self.record().cgroup.as_deref().filter(|_| beyond != extent.allowed) {
            let [from, to] = [extent.allowed, beyond].map(|beyond| extent.launched.saturating_add(beyond));
            cgroup::change_memory(cgroup, from, to)?;
        }
        extent.allowed = beyond;
        Ok(())
    }
}

/// Asks the guest to have so many bytes beyond what its VM was launched with, and waits; says how many it has.
async fn plug(vmm: &VmmHandle, bytes: u64, limit: Duration) -> Result<u64, VmmError> {
    let asked = vmm.call(Request::Resize { plugged: bytes }, Vec::new());
    match tokio::time::timeout(limit, asked).await {
        Ok(answered) => bytes_of(answered?.0),
        Err(_) => plugged(vmm).await,
    }
}

async fn plugged(vmm: &VmmHandle) -> Result<u64, VmmError> {
    bytes_of(vmm.call(Request::Plugged, Vec::new()).await?.0)
}

fn bytes_of(reply: Reply) -> Result<u64, VmmError> {
    match reply {
        Reply::Plugged { bytes } => Ok(bytes),
        _ => Err(VmmError::WrongReply),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_vm_grows_by_what_a_limit_needs_and_notes_of_its_pages() {
        let extent = Extent::launched_with(vm_memory(Some(64 * MIB)).unwrap());
        for (limit, beyond) in [(64, 0), (32, 0), (1, 0), (65, 2), (512, 456), (1024, 976)] {
            assert_eq!(extent.beyond(limit * MIB).unwrap(), beyond * MIB, "{limit}");
        }
    }

    #[test]
    fn there_is_an_end_to_growth() {
        let extent = Extent::launched_with(128 * MIB);
        assert!(extent.beyond(MEMORY_ROOM - (MEMORY_ROOM >> 5)).is_ok());
        for limit in [MEMORY_ROOM + 64 * MIB, i64::MAX as u64 - (64 << 20) - 4096] {
            assert!(matches!(extent.beyond(limit), Err(ResizeError::TooMuch { .. })), "{limit}");
        }
        assert!(matches!(extent.beyond(u64::MAX), Err(ResizeError::Memory(_))));
    }
}
