//! Limits of a running pod: the guest's cgroups, its VM and the host's cgroup follow them, in the order in which nothing is
//! promised that is not there.

use oci_spec::runtime::{LinuxResources, Spec};

use super::limits::{Limit, Limits};
use super::{Container, Pod, PodError};
use crate::guest_spec::settle_resources;

impl Pod {
    /// Changes what a container may use while it runs; what is absent stays as it is.
    pub async fn update(&self, container: &Container, mut resources: LinuxResources) -> Result<(), PodError> {
        settle_resources(&mut resources)?;
        let mut limits = self.limits.lock().await;
        let (before, after) = (limits.clone(), limits.updated(&container.id, &resources));
        let grows = after.total().memory > before.total().memory;
        if grows {
            self.follow_memory(&after).await?;
        }
        self.sandbox.add_processors(after.vcpus()).await?;
        let guest = &container.guest;
        guest.update(&container.id, &resources).await.map_err(PodError::Create)?;
        *limits = after;
        if !grows {
            self.follow_memory(&limits).await?;
        }
        let (before, after) = (before.total(), limits.total());
        if (before.cpu, before.cpu_shares) != (after.cpu, after.cpu_shares) {
            self.sandbox.limit_processors(after.cpu, after.cpu_shares)?;
        }
        Ok(())
    }

    /// Makes room for a container that is about to be made.
    pub(super) async fn make_room_for(&self, id: &str, spec: &Spec) -> Result<(), PodError> {
        let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
        let limit = resources.map(Limit::of).unwrap_or_default();
        let mut limits = self.limits.lock().await;
        let with = limits.with(id, limit);
        self.follow_memory(&with).await?;
        self.sandbox.add_processors(with.vcpus()).await?;
        *limits = with;
        Ok(())
    }

    /// One that is no more, or never was. Its memory and processors stay the VM's, for whom comes next: what the guest frees
    /// is the host's in any case.
    pub(super) async fn forget_limits_of(&self, id: &str) {
        self.limits.lock().await.remove(id);
    }

    /// Where not all of it is limited, there is nothing to follow.
    async fn follow_memory(&self, limits: &Limits) -> Result<(), PodError> {
        match limits.total().memory {
            Some(memory) => Ok(self.sandbox.resize(memory).await?),
            None => Ok(()),
        }
    }
}
