//! `bulkhead pull`.

use clap::Args;

use images::Platform;

/// Fetch an image from a registry
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bulkhead pull debian
  bulkhead pull ghcr.io/owner/app:1.2
  bulkhead pull -q localhost:5000/app@sha256:…")]
pub(crate) struct PullArgs {
    /// Of several platforms, this one
    #[arg(long, value_name = "OS/ARCHITECTURE")]
    pub platform: Option<Platform>,

    /// Print the image's name only
    #[arg(short, long)]
    pub quiet: bool,

    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub name: String,
}
