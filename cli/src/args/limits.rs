//! What a container may take, of its machine and of the host's.

use clap::Args;

use super::{Bytes, Cpus, DeviceBytes, DeviceRate, Memory};

#[derive(Debug, Args)]
pub(crate) struct LimitArgs {
    /// Memory the container may use, in b, k, m or g [default: what its machine has, 512 MiB]
    #[arg(short, long, value_name = "BYTES", help_heading = "Limits")]
    pub memory: Option<Memory>,

    /// Memory and swap together: accepted if it is no less than --memory, as no machine has swap
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, help_heading = "Limits")]
    pub memory_swap: Option<String>,

    /// Memory below which the container's is not taken away when others want it
    #[arg(long, value_name = "BYTES", help_heading = "Limits")]
    pub memory_reservation: Option<Bytes>,

    /// Processors the container may use, such as 2 or 0.5 [default: 1]
    #[arg(long, value_name = "NUMBER", help_heading = "Limits")]
    pub cpus: Option<Cpus>,

    /// Processor time relative to other containers', 2 to 262144 [default: 1024]
    #[arg(
        short,
        long,
        value_name = "WEIGHT",
        value_parser = clap::value_parser!(u64).range(2..=262_144),
        help_heading = "Limits"
    )]
    pub cpu_shares: Option<u64>,

    /// Processes the container may have; -1: any number
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true, help_heading = "Limits")]
    pub pids_limit: Option<i64>,

    /// Disk time relative to other containers', 10 to 1000
    #[arg(
        long,
        value_name = "WEIGHT",
        value_parser = clap::value_parser!(u64).range(10..=1000),
        help_heading = "Limits"
    )]
    pub blkio_weight: Option<u64>,

    /// The same for one disk of the host
    #[arg(long, value_name = "DEVICE:WEIGHT", help_heading = "Limits")]
    pub blkio_weight_device: Vec<DeviceRate>,

    /// Bytes a second read from a disk of the host, such as /dev/sda:10m
    #[arg(long, value_name = "DEVICE:BYTES", help_heading = "Limits")]
    pub device_read_bps: Vec<DeviceBytes>,

    /// Bytes a second written
    #[arg(long, value_name = "DEVICE:BYTES", help_heading = "Limits")]
    pub device_write_bps: Vec<DeviceBytes>,

    /// Operations a second that read from a disk of the host
    #[arg(long, value_name = "DEVICE:COUNT", help_heading = "Limits")]
    pub device_read_iops: Vec<DeviceRate>,

    /// Operations a second that write
    #[arg(long, value_name = "DEVICE:COUNT", help_heading = "Limits")]
    pub device_write_iops: Vec<DeviceRate>,
}
