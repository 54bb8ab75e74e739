//! `bulkhead diff`.

use clap::Args;

/// Show what a container added (A), changed (C) and deleted (D)
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bulkhead diff web
  bulkhead diff web | grep ^A")]
pub(crate) struct DiffArgs {
    #[arg(value_name = "CONTAINER")]
    pub container: String,
}
