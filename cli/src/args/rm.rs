//! `bulkhead rm`.

use clap::Args;

/// Remove containers
#[derive(Debug, Args)]
#[command(after_help = "\
CONTAINER is a name, an id, or the beginning of one, as `bulkhead ps -a` shows them. What a container
has written goes with it.

Examples:
  bulkhead rm web
  bulkhead rm -f $(bulkhead ps -aq)")]
pub(crate) struct RmArgs {
    /// Kill those that run
    #[arg(short, long)]
    pub force: bool,

    /// Accepted for Docker's sake: there are no volumes yet
    #[arg(short, long)]
    pub volumes: bool,

    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}
