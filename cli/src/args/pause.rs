//! `bulkhead pause`.

use clap::Args;

/// Stop all processes of containers where they are
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bulkhead pause web
  bulkhead pause $(bulkhead ps -q)")]
pub(crate) struct PauseArgs {
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}
