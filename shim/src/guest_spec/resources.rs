//! Limits: the guest's cgroup enforces those on the container's processes; those that name things of the host are for the
//! VMM's cgroup there.

use oci_spec::runtime::{Linux, LinuxResources};

use super::Refusal;

pub(super) fn settle(linux: &mut Linux) -> Result<(), Refusal> {
    let Some(resources) = linux.resources_mut() else { return Ok(()) };
    settle_resources(resources)
}

/// Also for those of an update.
pub(crate) fn settle_resources(resources: &mut LinuxResources) -> Result<(), Refusal> {
    if resources.rdma().as_ref().is_some_and(|limits| !limits.is_empty()) {
        return Err(Refusal::Field {
            field: "linux.resources.rdma",
            reason: "its kernel has no such devices",
        });
    }
    // Kubernetes limits each size to none, and of that a guest has enough.
    if resources.hugepage_limits().iter().flatten().any(|limit| limit.limit() > 0) {
        return Err(Refusal::Field {
            field: "linux.resources.hugepageLimits",
            reason: "its memory is not backed by the host's huge pages",
        });
    }
    resources.set_hugepage_limits(None);
    // By the host's numbers of devices and processors, and for its network.
    resources.set_block_io(None);
    resources.set_network(None);
    if let Some(cpu) = resources.cpu_mut() {
        cpu.set_cpus(None);
        cpu.set_mems(None);
        cpu.set_realtime_period(None);
        cpu.set_realtime_runtime(None);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(resources: &str) -> Result<LinuxResources, Refusal> {
        let mut resources: LinuxResources = serde_json::from_str(resources).unwrap();
        settle_resources(&mut resources).map(|()| resources)
    }

    #[test]
    fn what_names_the_hosts_processors_and_disks_stays_there() {
        let resources = settled(r#"{"cpu":{"cpus":"0-3","quota":1000},"blockIO":{"weight":10}}"#).unwrap();
        let cpu = resources.cpu().as_ref().unwrap();
        assert_eq!((cpu.cpus(), cpu.quota()), (&None, Some(1000)));
        assert!(resources.block_io().is_none());
    }

    #[test]
    fn no_huge_pages_can_be_had_and_none_can_be_asked_for() {
        assert!(settled(r#"{"hugepageLimits":[{"pageSize":"2MB","limit":0}]}"#).is_ok());
        assert!(settled(r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4096}]}"#).is_err());
        assert!(settled(r#"{"rdma":{"mlx5_1":{"hcaHandles":3}}}"#).is_err());
    }
}
