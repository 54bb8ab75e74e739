//! `bulkhead stats`.

use clap::Args;

use crate::listing::Format;

/// Show what running containers use
#[derive(Debug, Args)]
#[command(after_help = "\
CPU %, MEM USAGE, BLOCK I/O and PIDS are the container's, as the guest's kernel counts them. HOST CPU %
and HOST MEM are what its sandbox costs this machine: the VMM process with the VM in it.

Examples:
  bulkhead stats
  bulkhead stats --no-stream web
  bulkhead stats --no-stream --format '{{.Name}} {{.MemUsage}} {{.HostMem}}'")]
pub(crate) struct StatsArgs {
    /// Show containers that do not run as well
    #[arg(short, long)]
    pub all: bool,

    /// table, json, or a Go template for each row
    #[arg(long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    pub format: Format,

    /// Print once, and end
    #[arg(long)]
    pub no_stream: bool,

    /// Print ids in full
    #[arg(long)]
    pub no_trunc: bool,

    #[arg(value_name = "CONTAINER")]
    pub containers: Vec<String>,
}
