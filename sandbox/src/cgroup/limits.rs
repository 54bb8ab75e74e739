//! What a sandbox may take of its host, as cgroup v2 says it (Linux Documentation/admin-guide/cgroup-v2.rst).

use std::path::PathBuf;

/// Limits on a sandbox's VMM, and so on everything in its VM. They come on top of what the guest's own cgroups
/// enforce, and hold when the guest does not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostLimits {
    /// Hold the VMM to the memory its VM was given and a bound of processes, though nothing below is asked for.
    pub confine: bool,
    pub cpu: Option<CpuQuota>,
    /// Share of the processors when they are contended, as Docker has it: 2 to 262144, 1024 by default.
    pub cpu_shares: Option<u64>,
    /// Share of the disks when they are contended: 10 to 1000.
    pub blkio_weight: Option<u64>,
    pub blkio_weight_devices: Vec<DeviceValue>,
    /// Bytes per second.
    pub device_read_bps: Vec<DeviceValue>,
    pub device_write_bps: Vec<DeviceValue>,
    /// Operations per second.
    pub device_read_iops: Vec<DeviceValue>,
    pub device_write_iops: Vec<DeviceValue>,
}

/// Processor time per period, in microseconds; more than the period is more than one processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuQuota {
    pub quota_us: u64,
    pub period_us: u64,
}

/// A value for one block device of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceValue {
    /// /dev/sda and its kind.
    pub device: PathBuf,
    pub value: u64,
}
