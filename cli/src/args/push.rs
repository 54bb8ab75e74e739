//! `bulkhead push`.

use clap::Args;

/// Send an image to a registry
#[derive(Debug, Args)]
#[command(after_help = "\
The registry is the beginning of the image's name; `bulkhead tag` gives an image another name.

Examples:
  bulkhead push localhost:5000/app:1.2
  bulkhead tag app ghcr.io/owner/app && bulkhead push ghcr.io/owner/app")]
pub(crate) struct PushArgs {
    /// Print the image's name only
    #[arg(short, long)]
    pub quiet: bool,

    #[arg(value_name = "NAME[:TAG]")]
    pub name: String,
}
