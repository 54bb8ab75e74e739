//! `bulkhead-oci spec`.

use std::path::PathBuf;

use clap::Args;

/// Write a configuration to start from, config.json
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mkdir -p web/rootfs && bulkhead-oci spec --bundle web")]
pub(crate) struct SpecArgs {
    /// The directory of the bundle
    #[arg(short, long, value_name = "DIRECTORY", default_value = ".")]
    pub bundle: PathBuf,

    /// One for a user who is not root
    #[arg(long)]
    pub rootless: bool,
}
