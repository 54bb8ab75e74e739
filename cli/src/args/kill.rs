//! `bulkhead kill`.

use clap::Args;

use super::Signal;

/// Send a signal to the command of running containers
#[derive(Debug, Args)]
#[command(after_help = "\
CONTAINER is a name, an id, or the beginning of one, as `bulkhead ps` shows them.

Examples:
  bulkhead kill web
  bulkhead kill -s HUP web
  bulkhead kill $(bulkhead ps -q)")]
pub(crate) struct KillArgs {
    /// The signal, by name or number
    #[arg(short, long, default_value = "KILL")]
    pub signal: Signal,

    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}
