//! `bulkhead tag`.

use clap::Args;

/// Give an image a further name
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bulkhead tag debian:12 mine:base
  bulkhead tag 0123456789ab localhost:5000/app:1.2")]
pub(crate) struct TagArgs {
    #[arg(value_name = "IMAGE")]
    pub image: String,

    #[arg(value_name = "NAME[:TAG]")]
    pub name: String,
}
