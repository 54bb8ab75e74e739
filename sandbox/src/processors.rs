//! A running sandbox's processors, which follow the limits of what runs in it: the VM's vCPUs, and what the host's cgroup
//! lets the VMM use.
//!
//! vCPUs are only added. Where there are more than a lowered limit keeps busy, the cgroups bind.

use std::thread::available_parallelism;

use vmm_api::{Reply, Request};

use crate::cgroup::{self, CpuQuota, LimitError};
use crate::guest::GuestError;
use crate::sandbox::Sandbox;
use crate::templates::Shape;
use crate::vmm::VmmError;

/// How many vCPUs a VM can come to have that was launched with fewer. A guest's kernel sets memory aside for each, and clears
/// some of it for every container.
const MOST: u8 = 8;

#[derive(Debug, thiserror::Error)]
pub enum ProcessorError {
    #[error("the VM gets no more processors")]
    Vmm(#[from] VmmError),
    #[error("the guest does not use its processors")]
    Guest(#[from] GuestError),
}

/// How many vCPUs a VM has.
#[derive(Debug)]
pub(crate) struct Processors {
    /// That its guest uses.
    used: u8,
    /// That it can come to have.
    most: u8,
}

impl Processors {
    pub(crate) fn of(shape: Shape) -> Self {
        Self { used: shape.vcpus, most: shape.most_vcpus }
    }
}

/// How many vCPUs a VM launched with so many can come to have: no more than the host has processors.
pub(crate) fn most(launched: u8) -> u8 {
    let there =
        available_parallelism().map_or(launched, |count| u8::try_from(count.get()).unwrap_or(u8::MAX));
    there.min(MOST).max(launched)
}

impl Sandbox {
    /// Has the VM have so many vCPUs, or as many as it can come to have; it keeps those that it has. When this returns its
    /// guest uses them.
    pub async fn add_processors(&self, wanted: u8) -> Result<(), ProcessorError> {
        let mut processors = self.processors.lock().await;
        let total = wanted.min(processors.most);
        if total <= processors.used {
            return Ok(());
        }
        match self.vmm.handle().call(Request::AddVcpus { total }, Vec::new()).await? {
            (Reply::VcpusAdded, _) => {}
            _ => return Err(VmmError::WrongReply.into()),
        }
        self.guest.use_processors(total).await?;
        processors.used = total;
        Ok(())
    }

    /// Changes how much of the host's processors the VMM may use, where it is in a cgroup that can tell. Without a quota it
    /// is not limited; without shares they stay as they are.
    pub fn limit_processors(&self, quota: Option<CpuQuota>, shares: Option<u64>) -> Result<(), LimitError> {
        match &self.record().cgroup {
            Some(cgroup) => cgroup::limit_processors(cgroup, quota, shares),
            None => Ok(()),
        }
    }
}
