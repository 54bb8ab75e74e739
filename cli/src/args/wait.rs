//! `bulkhead wait`.

use clap::Args;

/// Wait until containers have ended, and print their exit codes
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bulkhead wait job
  exit $(bulkhead wait job)")]
pub(crate) struct WaitArgs {
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}
