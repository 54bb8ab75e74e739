//! What a container is: written when it is created, and enough to start it again at any time.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use oci_spec::runtime::Spec;
use sandbox::{CpuQuota, DeviceValue, HostLimits};
use serde::{Deserialize, Serialize};

use crate::health::HealthCheck;
use crate::log::LogOptions;
use crate::restart::RestartPolicy;

/// The period of [`Limits::cpu_quota_us`], in microseconds.
const PERIOD_US: u64 = 100_000;

/// All of it but the name stays as it was created.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Unique among the containers of this data directory.
    pub name: String,
    pub created: Timestamp,
    pub image: ImageOf,
    /// The agent sets `root.path`, and looks up the user.
    pub spec: Spec,
    /// As in [`sandbox::ContainerConfig`].
    pub user: String,
    pub hostname: String,
    /// Files bound over paths of the container.
    pub files: Vec<FileInEtc>,
    pub vcpus: u8,
    /// In bytes; `None`: what the VM has.
    pub memory: Option<u64>,
    #[serde(default)]
    pub limits: Limits,
    /// Size of the writable disk, in bytes.
    pub storage: u64,
    /// The signal that asks the command to end, by its Linux number.
    pub stop_signal: u32,
    pub stop_timeout: StopTimeout,
    pub restart: RestartPolicy,
    /// Removed when it ends.
    pub auto_remove: bool,
    /// Whether its writable disk has a name, for it to be there before and after a run: all but that of a container
    /// which is removed when the run it was made for ends.
    pub keeps_disk: bool,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    pub stdin: OpenStdin,
    /// Whether an init process stands between the kernel and the command.
    #[serde(default)]
    pub init: bool,
    #[serde(default)]
    pub health: Option<HealthCheck>,
    #[serde(default)]
    pub log: LogOptions,
}

/// The image a container is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageOf {
    /// As the user named it.
    pub name: String,
    /// What the front end finds it by again.
    pub id: String,
}

/// A file of the container's about the machine it runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInEtc {
    pub destination: String,
    pub content: String,
    pub mode: u32,
}

/// Limits of the container besides its memory, as Docker's flags say them; `None` and empty: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Processor time in each 100 ms, in microseconds.
    pub cpu_quota_us: Option<u64>,
    /// Processor and disk time relative to others': 2 to 262144, and 10 to 1000.
    pub cpu_shares: Option<u64>,
    pub blkio_weight: Option<u64>,
    pub blkio_weight_devices: Vec<DeviceLimit>,
    /// Bytes a second.
    pub device_read_bps: Vec<DeviceLimit>,
    pub device_write_bps: Vec<DeviceLimit>,
    /// Operations a second.
    pub device_read_iops: Vec<DeviceLimit>,
    pub device_write_iops: Vec<DeviceLimit>,
}

/// A value for one block device of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceLimit {
    pub device: PathBuf,
    pub value: u64,
}

/// How long a command that was asked to end may take, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopTimeout {
    After(u32),
    Never,
}

impl Default for StopTimeout {
    fn default() -> Self {
        Self::After(10)
    }
}

/// The container's standard input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenStdin {
    /// There is one; otherwise it is /dev/null.
    pub open: bool,
    /// It ends with the input of the first client that had it attached.
    pub once: bool,
}

impl Config {
    /// Whether the command has a terminal.
    pub fn terminal(&self) -> bool {
        self.spec.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false)
    }

    /// The command with its arguments.
    pub fn command(&self) -> &[String] {
        self.spec.process().as_ref().and_then(|process| process.args().as_deref()).unwrap_or_default()
    }
}

impl Limits {
    /// As the sandbox's cgroup on the host is to have them.
    pub(crate) fn of_host(&self) -> HostLimits {
        let devices = |limits: &[DeviceLimit]| {
            let values = limits.iter().cloned();
            values.map(|DeviceLimit { device, value }| DeviceValue { device, value }).collect()
        };
        HostLimits {
            confine: *self != Self::default(),
            cpu: self.cpu_quota_us.map(|quota_us| CpuQuota { quota_us, period_us: PERIOD_US }),
            cpu_shares: self.cpu_shares,
            blkio_weight: self.blkio_weight,
            blkio_weight_devices: devices(&self.blkio_weight_devices),
            device_read_bps: devices(&self.device_read_bps),
            device_write_bps: devices(&self.device_write_bps),
            device_read_iops: devices(&self.device_read_iops),
            device_write_iops: devices(&self.device_write_iops),
        }
    }
}

impl From<FileInEtc> for sandbox::File {
    fn from(file: FileInEtc) -> Self {
        Self { destination: file.destination, content: file.content.into_bytes(), mode: file.mode }
    }
}
