//! How large a pod's VM is: by the limits of its only container, or by those CRI states for the whole pod.

use oci_spec::runtime::LinuxResources;
use sandbox::{CpuQuota, HostLimits};

use crate::bundle::Bundle;

const POD_QUOTA: &str = "io.kubernetes.cri.sandbox-cpu-quota";
const POD_PERIOD: &str = "io.kubernetes.cri.sandbox-cpu-period";
const POD_SHARES: &str = "io.kubernetes.cri.sandbox-cpu-shares";
const POD_MEMORY: &str = "io.kubernetes.cri.sandbox-memory";

/// The period where a quota comes without one, in microseconds (Linux Documentation/admin-guide/cgroup-v2.rst).
pub(crate) const DEFAULT_PERIOD: u64 = 100_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) vcpus: u8,
    /// In bytes.
    pub(crate) memory_limit: Option<u64>,
    pub(crate) limits: HostLimits,
}

impl Size {
    pub(crate) fn of(bundle: &Bundle) -> Self {
        let resources = bundle.spec.linux().as_ref().and_then(|linux| linux.resources().clone());
        let resources = resources.unwrap_or_default();
        let quota = pod_quota(bundle).or_else(|| own_quota(&resources));
        let memory_limit = stated(bundle, POD_MEMORY).or_else(|| own_memory(&resources));
        let cpu_shares = stated(bundle, POD_SHARES).or_else(|| resources.cpu().as_ref()?.shares());
        Self {
            vcpus: quota.map_or(1, vcpus_for),
            memory_limit,
            limits: HostLimits { confine: true, cpu: quota, cpu_shares, ..HostLimits::default() },
        }
    }
}

fn pod_quota(bundle: &Bundle) -> Option<CpuQuota> {
    let period_us = stated(bundle, POD_PERIOD).unwrap_or(DEFAULT_PERIOD);
    stated(bundle, POD_QUOTA).map(|quota_us| CpuQuota { quota_us, period_us })
}

fn own_quota(resources: &LinuxResources) -> Option<CpuQuota> {
    let cpu = resources.cpu().as_ref()?;
    let quota_us = cpu.quota().and_then(positive)?;
    Some(CpuQuota {
        quota_us,
        period_us: cpu.period().filter(|period| *period > 0).unwrap_or(DEFAULT_PERIOD),
    })
}

fn own_memory(resources: &LinuxResources) -> Option<u64> {
    resources.memory().as_ref()?.limit().and_then(positive)
}

/// As many as the quota can keep busy, and no more than the host has.
pub(crate) fn vcpus_for(CpuQuota { quota_us, period_us }: CpuQuota) -> u8 {
    let there = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let busy = quota_us.div_ceil(period_us).clamp(1, there);
    u8::try_from(busy).unwrap_or(u8::MAX)
}

/// A number in an annotation.
fn stated(bundle: &Bundle, annotation: &str) -> Option<u64> {
    bundle.annotation(annotation)?.parse().ok().and_then(positive)
}

/// 0 and less stand for no limit.
pub(crate) fn positive(number: i64) -> Option<u64> {
    u64::try_from(number).ok().filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn size(resources: &str, annotations: &str) -> Size {
        let spec = format!(
            r#"{{"ociVersion":"1.2.0","linux":{{"resources":{resources}}},"annotations":{annotations}}}"#
        );
        Size::of(&Bundle { path: PathBuf::new(), spec: serde_json::from_str(&spec).unwrap() })
    }

    #[test]
    fn a_container_alone_has_the_size_of_its_limits() {
        let size = size(
            r#"{"memory":{"limit":268435456},"cpu":{"quota":50000,"period":100000,"shares":512}}"#,
            "{}",
        );
        assert_eq!((size.vcpus, size.memory_limit), (1, Some(256 << 20)));
        assert_eq!(size.limits.cpu, Some(CpuQuota { quota_us: 50_000, period_us: 100_000 }));
        assert_eq!(size.limits.cpu_shares, Some(512));
    }

    #[test]
    fn a_pod_has_the_size_its_annotations_say() {
        let annotations =
            r#"{"io.kubernetes.cri.sandbox-memory":"134217728","io.kubernetes.cri.sandbox-cpu-quota":"-1"}"#;
        let size = size(r#"{"memory":{"limit":-1}}"#, annotations);
        assert_eq!((size.vcpus, size.memory_limit, size.limits.cpu), (1, Some(128 << 20), None));
    }

    #[test]
    fn nonsense_limits_nothing() {
        let size =
            size(r#"{"cpu":{"quota":0,"period":0}}"#, r#"{"io.kubernetes.cri.sandbox-memory":"much"}"#);
        assert_eq!((size.vcpus, size.memory_limit, size.limits.cpu), (1, None, None));
    }
}
