//! `bulkhead unpause`.

use clap::Args;

/// Let paused containers go on
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bulkhead unpause web")]
pub(crate) struct UnpauseArgs {
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}
