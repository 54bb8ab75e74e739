//! What a running container may use: resources of the OCI runtime spec, as files of its cgroup (Linux
//! Documentation/admin-guide/cgroup-v2.rst).
//!
//! What is absent, or 0, stays as it is; what is negative has no limit. Sets of CPUs are not looked at: they are the host's.

use libcontainer::oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

use super::CallError;
use super::cgroup::{Cgroup, CgroupError};
use crate::error_chain;

/// Of cgroup v1, and the weights of cgroup v2 they become.
const MIN_SHARES: u64 = 2;
const MAX_SHARES: u32 = 262_144;
const MAX_WEIGHT: f64 = 10_000.0;

/// Controllers whose files may be named one by one.
const CONTROLLERS: [&str; 5] = ["cpu", "hugetlb", "io", "memory", "pids"];

const SWAP: &str = "memory.swap.max";

#[derive(Debug, thiserror::Error)]
pub(super) enum UpdateError {
    #[error("the resources are not those of the OCI runtime spec")]
    Malformed(#[from] serde_json::Error),
    #[error("memory with swap cannot be limited to {swap} bytes without a limit of memory of at most that")]
    Swap { swap: i64 },
    #[error("{0:?} is no file of a controller's")]
    File(String),
    #[error("cannot set {file} to {value:?}")]
    Set { file: String, value: String, source: CgroupError },
}

/// Changes the cgroup's limits. Blocks: the kernel reclaims memory that is over its new limit.
pub(super) fn update(cgroup: &Cgroup, resources_json: &[u8]) -> Result<(), UpdateError> {
    let resources: LinuxResources = serde_json::from_slice(resources_json)?;
    let cpu_max = cgroup.read("cpu.max").unwrap_or_default();
    for (file, value) in settings(&resources, &cpu_max)? {
        // Without swap there is none to limit.
        if file == SWAP && !cgroup.has(&file) {
            continue;
        }
        cgroup.set(&file, &value).map_err(|source| UpdateError::Set { file, value, source })?;
    }
    Ok(())
}

type Setting = (String, String);

fn settings(resources: &LinuxResources, cpu_max_now: &str) -> Result<Vec<Setting>, UpdateError> {
    let mut settings = Vec::new();
    if let Some(memory) = resources.memory() {
        settings.extend(limit("memory.max", memory.limit()));
        settings.extend(limit("memory.low", memory.reservation()));
        settings.extend(swap(memory)?.map(|value| (SWAP.to_owned(), value)));
    }
    if let Some(cpu) = resources.cpu() {
        settings.extend(cpu_max(cpu, cpu_max_now).map(|value| ("cpu.max".to_owned(), value)));
        settings.extend(cpu.shares().and_then(weight).map(|value| ("cpu.weight".to_owned(), value)));
    }
    settings.extend(resources.pids().as_ref().and_then(|pids| limit("pids.max", Some(pids.limit()))));
    for (file, value) in resources.unified().iter().flatten() {
        let controller = file.split_once('.').filter(|(_, rest)| !rest.contains('/'));
        if !controller.is_some_and(|(controller, _)| CONTROLLERS.contains(&controller)) {
            return Err(UpdateError::File(file.clone()));
        }
        settings.push((file.clone(), value.clone()));
    }
    Ok(settings)
}

fn limit(file: &str, wanted: Option<i64>) -> Option<Setting> {
    let value = match wanted? {
        0 => return None,
        unlimited if unlimited < 0 => "max".to_owned(),
        limited => limited.to_string(),
    };
    Some((file.to_owned(), value))
}

/// Of swap alone: OCI has its sum with memory. As with cgroup v1, no limit of memory is none of swap.
fn swap(memory: &LinuxMemory) -> Result<Option<String>, UpdateError> {
    match (memory.limit().unwrap_or(0), memory.swap().unwrap_or(0)) {
        (limit, 0) if limit >= 0 => Ok(None),
        (_, swap) if swap <= 0 => Ok(Some("max".to_owned())),
        (limit, swap) if limit > 0 && limit <= swap => Ok(Some((swap - limit).to_string())),
        (_, swap) => Err(UpdateError::Swap { swap }),
    }
}

/// The kernel leaves a period that is not given as it is, but wants a quota: `now` is the file as it is.
fn cpu_max(cpu: &LinuxCpu, now: &str) -> Option<String> {
    let quota = limit("", cpu.quota()).map(|(_, quota)| quota);
    match cpu.period().filter(|period| *period != 0) {
        Some(period) => {
            let quota = quota.as_deref().or(now.split_whitespace().next()).unwrap_or("max");
            Some(format!("{quota} {period}"))
        }
        None => quota,
    }
}

/// As runc and libcontainer have it: a curve through the least, the most and the defaults of both.
fn weight(shares: u64) -> Option<String> {
    if shares == 0 {
        return None;
    }
    let shares = u32::try_from(shares.max(MIN_SHARES)).unwrap_or(MAX_SHARES).min(MAX_SHARES);
    let log = f64::from(shares).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    Some(10f64.powf(exponent).ceil().clamp(1.0, MAX_WEIGHT).to_string())
}

impl From<UpdateError> for CallError {
    fn from(error: UpdateError) -> Self {
        let words = error_chain::describe(&error);
        match error {
            UpdateError::Set { .. } => Self::Internal(words),
            _ => Self::BadArgument(words),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Result<Vec<String>, UpdateError> {
        let settings = settings(&serde_json::from_str(json).unwrap(), "30000 100000\n")?;
        Ok(settings.into_iter().map(|(file, value)| format!("{file} {value}")).collect())
    }

    #[test]
    fn resources_become_files_of_the_cgroup() {
        let json = r#"{
            "memory": {"limit": 1000, "reservation": 500, "swap": 1500},
            "cpu": {"quota": 50000, "period": 100000, "shares": 1024},
            "pids": {"limit": 7}, "unified": {"memory.high": "900"}
        }"#;
        let expected = [
            "memory.max 1000",
            "memory.low 500",
            "memory.swap.max 500",
            "cpu.max 50000 100000",
            "cpu.weight 100",
            "pids.max 7",
            "memory.high 900",
        ];
        assert_eq!(of(json).unwrap(), expected);
    }

    #[test]
    fn what_is_absent_stays_and_what_is_negative_is_unlimited() {
        assert!(of("{}").unwrap().is_empty());
        assert!(
            of(r#"{"memory": {"limit": 0}, "cpu": {"shares": 0, "quota": 0}, "pids": {"limit": 0}}"#)
                .unwrap()
                .is_empty()
        );
        assert_eq!(of(r#"{"memory": {"limit": -1}}"#).unwrap(), ["memory.max max", "memory.swap.max max"]);
        assert_eq!(of(r#"{"memory": {"swap": -1}}"#).unwrap(), ["memory.swap.max max"]);
        assert_eq!(
            of(r#"{"memory": {"limit": 5, "swap": 5}}"#).unwrap(),
            ["memory.max 5", "memory.swap.max 0"]
        );
        assert_eq!(of(r#"{"cpu": {"period": 50000}}"#).unwrap(), ["cpu.max 30000 50000"]);
        assert_eq!(
            of(r#"{"cpu": {"quota": -1}, "pids": {"limit": -1}}"#).unwrap(),
            ["cpu.max max", "pids.max max"]
        );
    }

    #[test]
    fn weights_keep_the_ends_of_shares() {
        for (shares, expected) in
            [(1, "1"), (2, "1"), (22_000, "1204"), (262_144, "10000"), (u64::MAX, "10000")]
        {
            assert_eq!(weight(shares).as_deref(), Some(expected), "{shares}");
        }
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for json in [
            r#"{"memory": {"swap": 1000}}"#,
            r#"{"memory": {"limit": 2000, "swap": 1000}}"#,
            r#"{"unified": {"cgroup.kill": "1"}}"#,
            r#"{"unified": {"memory./../../cgroup.kill": "1"}}"#,
        ] {
            assert!(of(json).is_err(), "{json}");
        }
    }
}
