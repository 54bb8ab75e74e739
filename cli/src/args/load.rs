//! `bulkhead load`.

use std::path::PathBuf;

use clap::Args;

use images::Platform;

/// Store the images of an archive
#[derive(Debug, Args)]
#[command(after_help = "\
Archives by `docker save`, `podman save`, `skopeo copy` and OCI image layouts, compressed or not.

Examples:
  bulkhead load -i images.tar
  docker save debian:12 | bulkhead load")]
pub(crate) struct LoadArgs {
    /// Read this file, or layout directory, instead of standard input
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<PathBuf>,

    /// Of several platforms, this one
    #[arg(long, value_name = "OS/ARCHITECTURE")]
    pub platform: Option<Platform>,

    /// Print nothing about how far it is
    #[arg(short, long)]
    pub quiet: bool,
}
