//! `bulkhead rmi`.

use clap::Args;

/// Remove images
#[derive(Debug, Args)]
#[command(after_help = "\
A name is taken away; the image goes with its last one, unless a container is made from it.

Examples:
  bulkhead rmi debian:12
  bulkhead rmi -f $(bulkhead images -q)")]
pub(crate) struct RmiArgs {
    /// Take all names away, and the image from stopped containers
    #[arg(short, long)]
    pub force: bool,

    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,
}
