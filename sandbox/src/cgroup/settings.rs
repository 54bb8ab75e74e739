//! Limits as what is written to a cgroup's files (Linux Documentation/admin-guide/cgroup-v2.rst).

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, major, minor, stat};

use super::limits::{CpuQuota, DeviceValue, HostLimits};

/// What a VMM needs besides its guest's memory: its own, the kernel's page tables of the guest (each level a
/// 512th of the one below, for the host and nested), and pages of the disks' files on their way. The page cache
/// counts, too, but is given up before anything is killed.
const VMM_MEMORY: u64 = 64 << 20;
const PAGE_TABLES_PER_MEMORY: u64 = 128;

/// Threads of a VMM: one for each vCPU, of which there are at most 255, and some for its devices.
const VMM_THREADS: u64 = 512;

/// Docker's bounds.
const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;
const BLKIO_WEIGHT: std::ops::RangeInclusive<u64> = 10..=1000;

#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    #[error("{option} must be from {least} to {most}, and not {value}")]
    Range { option: &'static str, least: u64, most: u64, value: u64 },
    #[error("cannot find the device {}", .path.display())]
    Device { path: PathBuf, source: io::Error },
    #[error("{} is no block device", .0.display())]
    NoBlockDevice(PathBuf),
}

/// One write.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// As a user names it.
    pub(super) option: &'static str,
    pub(super) controller: &'static str,
    pub(super) file: &'static str,
    pub(super) value: String,
    /// Whether nothing else enforces it.
    pub(super) needed: bool,
}

/// The settings for a VM with this much memory, in bytes.
pub(super) fn of(limits: &HostLimits, memory: u64) -> Result<Vec<Setting>, SettingError> {
    let mut settings = vec![
        also_in_guest("--memory", "memory", "memory.max", memory_limit(memory).to_string()),
        also_in_guest("--pids-limit", "pids", "pids.max", VMM_THREADS.to_string()),
    ];
    settings.extend(limits.cpu.map(|cpu| quota(Some(cpu))));
    settings.extend(limits.cpu_shares.map(shares).transpose()?);
    if let Some(weight) = limits.blkio_weight {
        check("--blkio-weight", &BLKIO_WEIGHT, weight)?;
        settings.push(needed("--blkio-weight", "io", "io.weight", format!("default {}", io_weight(weight))));
    }
    for DeviceValue { device, value } in &limits.blkio_weight_devices {
        check("--blkio-weight-device", &BLKIO_WEIGHT, *value)?;
        let value = format!("{} {}", number(device)?, io_weight(*value));
        settings.push(needed("--blkio-weight-device", "io", "io.weight", value));
    }
    for (option, key, values) in [
        ("--device-read-bps", "rbps", &limits.device_read_bps),
        ("--device-write-bps", "wbps", &limits.device_write_bps),
        ("--device-read-iops", "riops", &limits.device_read_iops),
        ("--device-write-iops", "wiops", &limits.device_write_iops),
    ] {
        for DeviceValue { device, value } in values {
            settings.push(needed(option, "io", "io.max", format!("{} {key}={value}", number(device)?)));
        }
    }
    Ok(settings)
}

pub(super) fn quota(quota: Option<CpuQuota>) -> Setting {
    let value = quota.map_or("max".to_owned(), |cpu| format!("{} {}", cpu.quota_us, cpu.period_us));
    also_in_guest("--cpus", "cpu", "cpu.max", value)
}

pub(super) fn shares(shares: u64) -> Result<Setting, SettingError> {
    check("--cpu-shares", &SHARES, shares)?;
    Ok(needed("--cpu-shares", "cpu", "cpu.weight", cpu_weight(shares).to_string()))
}

fn also_in_guest(
    option: &'static str,
    controller: &'static str,
    file: &'static str,
    value: String,
) -> Setting {
    Setting { option, controller, file, value, needed: false }
}

fn needed(option: &'static str, controller: &'static str, file: &'static str, value: String) -> Setting {
    Setting { needed: true, ..also_in_guest(option, controller, file, value) }
}

/// For a VM with this much memory, in bytes.
pub(super) fn memory_limit(memory: u64) -> u64 {
    memory.saturating_add(memory / PAGE_TABLES_PER_MEMORY).saturating_add(VMM_MEMORY)
}

/// Docker's shares as a weight, by the formula that runc and crun use since shares of 1024 are a weight of 100:
/// least, default and most are the same on both scales.
fn cpu_weight(shares: u64) -> u64 {
    let log = (shares.max(1) as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    (10_f64.powf(exponent).ceil() as u64).clamp(1, 10_000)
}

/// 10 to 1000 onto 1 to 10000 (OCI runtime-spec has the first scale, io.weight the second).
fn io_weight(weight: u64) -> u64 {
    1 + weight.saturating_sub(10).min(990) * 9999 / 990
}

/// A device as MAJOR:MINOR.
fn number(device: &Path) -> Result<String, SettingError> {
    let found = stat(device)
        .map_err(|error| SettingError::Device { path: device.to_owned(), source: error.into() })?;
    if FileType::from_raw_mode(found.st_mode) != FileType::BlockDevice {
        return Err(SettingError::NoBlockDevice(device.to_owned()));
    }
    Ok(format!("{}:{}", major(found.st_rdev), minor(found.st_rdev)))
}

fn check(
    option: &'static str,
    bounds: &std::ops::RangeInclusive<u64>,
    value: u64,
) -> Result<(), SettingError> {
    if bounds.contains(&value) {
        return Ok(());
    }
    Err(SettingError::Range { option, least: *bounds.start(), most: *bounds.end(), value })
}

#[cfg(test)]
mod tests {
    use super::super::limits::CpuQuota;
    use super::*;

    #[test]
    fn least_default_and_most_are_the_same_on_both_scales() {
        assert_eq!([2, 1024, 262_144].map(cpu_weight), [1, 100, 10_000]);
        assert_eq!([10, 500, 1000].map(io_weight), [1, 4950, 10_000]);
    }

    #[test]
    fn the_vmm_is_confined_with_every_limit() {
        let limits = HostLimits {
            cpu: Some(CpuQuota { quota_us: 150_000, period_us: 100_000 }),
            cpu_shares: Some(512),
            ..Default::default()
        };
        let settings = of(&limits, 256 << 20).unwrap();
        let written: Vec<_> =
            settings.iter().map(|setting| (setting.file, &*setting.value, setting.needed)).collect();
        let expected = [
            ("memory.max", "337641472", false),
            ("pids.max", "512", false),
            ("cpu.max", "150000 100000", false),
            ("cpu.weight", "59", true),
        ];
        assert_eq!(written, expected);
    }

    #[test]
    fn what_is_no_block_device_and_what_is_out_of_bounds_is_refused() {
        let device = |path: &str| vec![DeviceValue { device: path.into(), value: 1 }];
        let limits = HostLimits { device_read_bps: device("/dev/null"), ..Default::default() };
        assert!(matches!(of(&limits, 0), Err(SettingError::NoBlockDevice(_))));
        let limits = HostLimits { device_write_iops: device("/dev/none"), ..Default::default() };
        assert!(matches!(of(&limits, 0), Err(SettingError::Device { .. })));
        let limits = HostLimits { cpu_shares: Some(1), ..Default::default() };
        assert!(matches!(of(&limits, 0), Err(SettingError::Range { value: 1, .. })));
    }
}
