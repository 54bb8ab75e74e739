//! What a container is to be: the flags that `create` and `run` share.

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};
use containers::RestartPolicy;
use images::Platform;

use super::health::HealthArgs;
use super::limits::LimitArgs;
use super::log_options::LogArgs;
use super::not_yet::NotYetArgs;
use super::process::{ProcessArgs, StdioArgs};
use super::stop::parse_stop_timeout;
use super::{Bytes, HostEntry, Label, Pull, SecurityOpt, Signal, Tmpfs, Ulimit};
use crate::spec::capabilities::CapabilityName;

#[derive(Debug, Args)]
pub(crate) struct ContainerArgs {
    #[command(flatten)]
    pub stdio: StdioArgs,

    /// Attach only to STDIN, STDOUT or STDERR
    #[arg(short, long, value_name = "STREAM", ignore_case = true, help_heading = "Streams")]
    pub attach: Vec<StreamName>,

    #[command(flatten)]
    pub process: ProcessArgs,

    /// Run this program instead of the image's entrypoint; empty: none
    #[arg(long, value_name = "PROGRAM", help_heading = "Process")]
    pub entrypoint: Option<String>,

    /// Run an init that passes signals on and reaps orphans
    #[arg(long, help_heading = "Process")]
    pub init: bool,

    /// The signal that asks the command to end
    #[arg(long, value_name = "SIGNAL", help_heading = "Process")]
    pub stop_signal: Option<Signal>,

    /// Seconds the command may take to end once asked, before it is killed; -1: for ever [default: 10]
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = parse_stop_timeout,
        allow_negative_numbers = true,
        help_heading = "Process"
    )]
    pub stop_timeout: Option<containers::StopTimeout>,

    /// What the other commands call the container [default: the first 12 digits of its id]
    #[arg(long, help_heading = "Container")]
    pub name: Option<String>,

    /// Remove the container when it ends
    #[arg(long, help_heading = "Container")]
    pub rm: bool,

    /// When to start it again once it ended: no, on-failure[:COUNT], always or unless-stopped
    #[arg(long, value_name = "POLICY", default_value = "no", help_heading = "Container")]
    pub restart: RestartPolicy,

    /// Note something about the container
    #[arg(short, long, value_name = "NAME[=VALUE]", help_heading = "Container")]
    pub label: Vec<Label>,

    /// Read labels from a file, one a line
    #[arg(long, value_name = "FILE", help_heading = "Container")]
    pub label_file: Vec<PathBuf>,

    /// Put an annotation into the container's OCI spec
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Container")]
    pub annotation: Vec<Label>,

    /// Write the container's id to a file, which must not be there yet
    #[arg(long, value_name = "FILE", help_heading = "Container")]
    pub cidfile: Option<PathBuf>,

    /// Host name inside [default: the first 12 digits of the id]
    #[arg(short = 'h', long, value_name = "NAME", help_heading = "Container")]
    pub hostname: Option<String>,

    #[command(flatten)]
    pub health: HealthArgs,

    #[command(flatten)]
    pub log: LogArgs,

    /// Whether the image is fetched: always, never, or where it is missing
    #[arg(long, value_enum, default_value_t = Pull::Missing, help_heading = "Image")]
    pub pull: Pull,

    /// Choose among the image's platforms, such as linux/amd64
    #[arg(long, value_name = "OS/ARCHITECTURE", help_heading = "Image")]
    pub platform: Option<Platform>,

    /// Do not show how far the image is fetched
    #[arg(short, long, help_heading = "Image")]
    pub quiet: bool,

    /// Make the root file system read-only
    #[arg(long, help_heading = "Files")]
    pub read_only: bool,

    /// Mount a directory in memory, such as /tmp or /run:size=64m,exec
    #[arg(long, value_name = "PATH[:OPTIONS]", help_heading = "Files")]
    pub tmpfs: Vec<Tmpfs>,

    /// Size of the writable disk, in whole 128 MiB; only what is written takes up space [default: 10g]
    #[arg(long, value_name = "BYTES", help_heading = "Files")]
    pub storage: Option<Bytes>,

    /// Size of /dev/shm [default: 64m]
    #[arg(long, value_name = "BYTES", help_heading = "Files")]
    pub shm_size: Option<Bytes>,

    /// Put a line into /etc/hosts
    #[arg(long, value_name = "NAME:ADDRESS", help_heading = "Files")]
    pub add_host: Vec<HostEntry>,

    #[command(flatten)]
    pub limits: LimitArgs,

    /// Limit a resource of each process, such as nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]", help_heading = "Limits")]
    pub ulimit: Vec<Ulimit>,

    /// Give a capability, such as NET_ADMIN, or ALL
    #[arg(long, value_name = "CAPABILITY", help_heading = "Privileges")]
    pub cap_add: Vec<CapabilityName>,

    /// Take a capability away, or ALL
    #[arg(long, value_name = "CAPABILITY", help_heading = "Privileges")]
    pub cap_drop: Vec<CapabilityName>,

    /// seccomp=unconfined, seccomp=PROFILE.json (Docker's format or the OCI's), or no-new-privileges
    #[arg(long, value_name = "OPTION", help_heading = "Privileges")]
    pub security_opt: Vec<SecurityOpt>,

    #[command(flatten)]
    pub not_yet: NotYetArgs,

    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,

    /// Go on from a snapshot of a container, which says all but the name
    #[arg(
        long,
        value_name = "SNAPSHOT",
        help_heading = "Container",
        conflicts_with_all = [
            "image_and_command", "interactive", "tty", "attach", "env", "env_file", "workdir", "user",
            "entrypoint", "init", "stop_signal", "stop_timeout", "restart", "label", "label_file",
            "annotation", "hostname", "health_cmd", "health_interval", "health_timeout",
            "health_start_period", "health_start_interval", "health_retries", "no_healthcheck",
            "log_driver", "log_opt", "pull", "platform", "read_only", "tmpfs", "storage", "shm_size",
            "add_host", "memory", "memory_swap", "memory_reservation", "cpus", "cpu_shares", "pids_limit",
            "blkio_weight", "blkio_weight_device", "device_read_bps", "device_write_bps",
            "device_read_iops", "device_write_iops", "ulimit", "cap_add", "cap_drop", "security_opt",
            "network"
        ]
    )]
    pub from: Option<String>,

    // One list, as that is what makes options end at the image.
    #[arg(value_names = ["IMAGE", "COMMAND"], required_unless_present = "from", num_args = 1.., trailing_var_arg = true, hide = true)]
    image_and_command: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StreamName {
    Stdin,
    Stdout,
    Stderr,
}

impl ContainerArgs {
    pub(crate) fn image(&self) -> &str {
        self.image_and_command.first().map(String::as_str).unwrap_or_default()
    }

    pub(crate) fn command(&self) -> &[String] {
        self.image_and_command.get(1..).unwrap_or_default()
    }
}
