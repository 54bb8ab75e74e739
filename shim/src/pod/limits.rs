//! What the limits of a pod's containers come to, for its VM and the host's cgroup to follow while it runs.

use std::collections::BTreeMap;

use oci_spec::runtime::LinuxResources;
use sandbox::CpuQuota;

use crate::membership::Membership;
use crate::size::{DEFAULT_PERIOD, Size, positive, vcpus_for};

/// Of a container, or of a pod; what is absent is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Limit {
    /// In bytes.
    pub(super) memory: Option<u64>,
    pub(super) cpu: Option<CpuQuota>,
    pub(super) cpu_shares: Option<u64>,
}

/// Those of all containers that run something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limits {
    /// What a pod as a whole was given, and never has less of; `None`: of a container alone, or one that keeps a pod without
    /// saying so, as Podman's does.
    least: Option<Limit>,
    containers: BTreeMap<String, Limit>,
}

/// Docker's bound, and that of the host's cgroups.
const MOST_SHARES: u64 = 262_144;

impl Limit {
    pub(super) fn of(resources: &LinuxResources) -> Self {
        Self::default().with(resources)
    }

    /// After an update, by which what is absent stays as it is, and what is not positive is no limit.
    fn with(self, update: &LinuxResources) -> Self {
        let memory = update.memory().as_ref().and_then(|memory| memory.limit());
        let cpu = update.cpu().as_ref();
        let quota = cpu.and_then(|cpu| cpu.quota());
        let period = cpu.and_then(|cpu| cpu.period()).filter(|period| *period > 0);
        let period_us = period.or(self.cpu.map(|cpu| cpu.period_us)).unwrap_or(DEFAULT_PERIOD);
        let quota_us = quota.map_or(self.cpu.map(|cpu| cpu.quota_us), positive);
        let shares = cpu.and_then(|cpu| cpu.shares()).filter(|shares| *shares > 0);
        Self {
            memory: memory.map_or(self.memory, positive),
            cpu: quota_us.map(|quota_us| CpuQuota { quota_us, period_us }),
            cpu_shares: shares.or(self.cpu_shares),
        }
    }
}

impl Limits {
    /// Of a pod of this size in which nothing runs yet, or of a container alone.
    pub(super) fn of(membership: &Membership, size: &Size) -> Self {
        let given =
            Limit { memory: size.memory_limit, cpu: size.limits.cpu, cpu_shares: size.limits.cpu_shares };
        let least = (*membership != Membership::Alone).then_some(given);
        Self { least, containers: BTreeMap::new() }
    }

    pub(super) fn with(&self, id: &str, limit: Limit) -> Self {
        let mut limits = self.clone();
        limits.containers.insert(id.to_owned(), limit);
        limits
    }

    pub(super) fn updated(&self, id: &str, update: &LinuxResources) -> Self {
        let before = self.containers.get(id).copied().unwrap_or_default();
        self.with(id, before.with(update))
    }

    pub(super) fn remove(&mut self, id: &str) {
        self.containers.remove(id);
    }

    /// Where one container is not limited, nor are all of them. A pod's processors are limited only where they were to begin
    /// with: elsewhere whoever made it sees to that.
    pub(super) fn total(&self) -> Limit {
        let mut containers = self.containers.values();
        let least = match (self.least, containers.next(), containers.next()) {
            (Some(least), ..) => least,
            (None, Some(alone), None) => return *alone,
            (None, ..) => Limit::default(),
        };
        let quota_us = least.cpu.and_then(|least| {
            self.sum(|limit| limit.cpu.map(per_period)).map(|sum| sum.max(per_period(least)))
        });
        let cpu_shares = least.cpu_shares.and_then(|least| {
            self.sum(|limit| limit.cpu_shares).map(|sum| sum.clamp(least, MOST_SHARES.max(least)))
        });
        Limit {
            memory: self.sum(|limit| limit.memory),
            cpu: quota_us.map(|quota_us| CpuQuota { quota_us, period_us: DEFAULT_PERIOD }),
            cpu_shares,
        }
    }

    /// What the limits that there are keep busy: a container without one takes its share of that.
    pub(super) fn vcpus(&self) -> u8 {
        let quotas = self.containers.values().filter_map(|limit| limit.cpu).map(per_period);
        let quota_us = quotas.fold(0, u64::saturating_add);
        vcpus_for(CpuQuota { quota_us, period_us: DEFAULT_PERIOD })
    }

    fn sum(&self, of: impl Fn(&Limit) -> Option<u64>) -> Option<u64> {
        let mut limits = self.containers.values().map(of);
        let first = limits.next()??;
        limits.try_fold(first, |sum, limit| Some(sum.saturating_add(limit?)))
    }
}

/// Of quotas of different periods, what they are of one, to be added up.
fn per_period(cpu: CpuQuota) -> u64 {
    let quota = u128::from(cpu.quota_us) * u128::from(DEFAULT_PERIOD) / u128::from(cpu.period_us.max(1));
    u64::try_from(quota).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(text: &str) -> LinuxResources {
        serde_json::from_str(text).unwrap()
    }

    fn limit(text: &str) -> Limit {
        Limit::of(&resources(text))
    }

    fn cpu(quota_us: u64, period_us: u64) -> Option<CpuQuota> {
        Some(CpuQuota { quota_us, period_us })
    }

    fn pod(least: Limit) -> Limits {
        Limits { least: Some(least), containers: BTreeMap::new() }
    }

    fn alone() -> Limits {
        Limits { least: None, containers: BTreeMap::new() }
    }

    #[test]
    fn an_update_changes_what_it_names() {
        let before = limit(r#"{"memory":{"limit":64},"cpu":{"quota":5000,"period":50000,"shares":512}}"#);
        assert_eq!(before, Limit { memory: Some(64), cpu: cpu(5000, 50_000), cpu_shares: Some(512) });
        let after = before.with(&resources(r#"{"memory":{"limit":128}}"#));
        assert_eq!(after, Limit { memory: Some(128), ..before });
        let after = before.with(&resources(r#"{"cpu":{"quota":7000}}"#));
        assert_eq!(after, Limit { cpu: cpu(7000, 50_000), ..before });
        let after = before.with(&resources(r#"{"memory":{"limit":-1},"cpu":{"quota":-1}}"#));
        assert_eq!(after, Limit { memory: None, cpu: None, ..before });
    }

    #[test]
    fn what_joins_a_container_that_seemed_alone_does_not_limit_it() {
        let limited = limit(r#"{"memory":{"limit":64},"cpu":{"quota":5000,"period":50000,"shares":512}}"#);
        let first = alone().with("b", Limit::default());
        assert_eq!(first.with("a", limited).total(), Limit::default());
        assert_eq!(alone().with("b", limited).total(), limited);
    }

    #[test]
    fn a_pod_has_the_sum_and_no_less_of_processors_than_it_was_given() {
        let least = Limit { memory: Some(100), cpu: cpu(50_000, 100_000), cpu_shares: None };
        let pod = pod(least);
        let pod =
            pod.with("a", limit(r#"{"memory":{"limit":60},"cpu":{"quota":5000,"period":50000,"shares":9}}"#));
        assert_eq!(
            pod.total(),
            Limit { memory: Some(60), cpu: cpu(50_000, DEFAULT_PERIOD), cpu_shares: None }
        );
        let mut pod = pod.with("b", limit(r#"{"memory":{"limit":70},"cpu":{"quota":60000}}"#));
        assert_eq!(
            pod.total(),
            Limit { memory: Some(130), cpu: cpu(70_000, DEFAULT_PERIOD), cpu_shares: None }
        );
        pod.remove("a");
        assert_eq!(pod.total().memory, Some(70));
    }

    #[test]
    fn where_one_is_not_limited_nor_are_all() {
        let pod = pod(Limit::default());
        assert_eq!(pod.total(), Limit::default());
        let pod = pod.with("a", limit(r#"{"memory":{"limit":60}}"#)).with("b", limit("{}"));
        assert_eq!(pod.total(), Limit::default());
        assert_eq!(pod.updated("b", &resources(r#"{"memory":{"limit":4}}"#)).total().memory, Some(64));
    }

    #[test]
    fn the_vm_has_a_vcpu_for_each_processor_that_limits_come_to() {
        let there = std::thread::available_parallelism().unwrap().get();
        let vcpus = |limits: &Limits| usize::from(limits.vcpus());
        assert_eq!(vcpus(&alone()), 1);
        let pod = pod(Limit::default()).with("a", limit(r#"{"cpu":{"quota":30000,"period":20000}}"#));
        assert_eq!(vcpus(&pod), there.min(2));
        let pod = pod.with("b", limit("{}")).with("c", limit(r#"{"cpu":{"quota":150000}}"#));
        assert_eq!(vcpus(&pod), there.min(3));
        assert_eq!(vcpus(&pod.with("d", limit(r#"{"cpu":{"quota":9223372036854775807}}"#))), there.min(255));
    }

    #[test]
    fn a_container_alone_has_its_own() {
        let own = limit(r#"{"memory":{"limit":60},"cpu":{"quota":5000,"period":50000,"shares":512}}"#);
        assert_eq!(alone().with("a", own).total(), own);
        assert_eq!(alone().total(), Limit::default());
    }
}
