//! `bulkhead-oci update`.

use std::path::PathBuf;

use clap::Args;

/// Change what a container may use while it runs
#[derive(Debug, Args)]
#[command(after_help = "\
What is not said stays as it is.

Examples:
  bulkhead-oci update --memory 512M --pids-limit 100 web
  echo '{\"cpu\": {\"quota\": 50000, \"period\": 100000}}' | bulkhead-oci update --resources - web")]
pub(crate) struct UpdateArgs {
    /// Read all of it from a file, or `-` for standard input, as a configuration's `linux.resources`
    #[arg(short, long, value_name = "FILE")]
    pub resources: Option<PathBuf>,

    /// Share of the disks' time, from 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    pub blkio_weight: Option<u16>,

    /// In microseconds
    #[arg(long, value_name = "TIME")]
    pub cpu_period: Option<u64>,

    /// In microseconds of each period; -1: no limit
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    pub cpu_quota: Option<i64>,

    /// In microseconds, on top of the quota
    #[arg(long, value_name = "TIME")]
    pub cpu_burst: Option<u64>,

    /// Share of the processors' time, relative to others
    #[arg(long, value_name = "SHARES")]
    pub cpu_share: Option<u64>,

    /// In microseconds
    #[arg(long, value_name = "TIME")]
    pub cpu_rt_period: Option<u64>,

    /// In microseconds
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    pub cpu_rt_runtime: Option<i64>,

    /// 1: run only when nobody else wants to
    #[arg(long, value_name = "0|1")]
    pub cpu_idle: Option<i64>,

    /// Which processors, such as 0-2,7
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,

    /// Which nodes of memory
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,

    /// In bytes, or with a unit of k, m or g; -1: no limit
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    pub memory: Option<String>,

    /// What it gets when memory is short
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    pub memory_reservation: Option<String>,

    /// Memory and swap together; -1: no limit
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    pub memory_swap: Option<String>,

    /// Taken, and of no effect, as with runc
    #[arg(long, value_name = "BYTES", hide = true)]
    pub kernel_memory: Option<String>,

    /// Taken, and of no effect, as with runc
    #[arg(long, value_name = "BYTES", hide = true)]
    pub kernel_memory_tcp: Option<String>,

    /// The most processes and threads; -1: no limit
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    pub pids_limit: Option<i64>,

    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}
