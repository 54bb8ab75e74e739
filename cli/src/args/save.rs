//! `bulkhead save`.

use std::path::PathBuf;

use clap::Args;

/// Write images to an archive
#[derive(Debug, Args)]
#[command(after_help = "\
The archive is an OCI image layout with Docker's manifest.json beside it: docker, podman and skopeo
load it. Manifests, configurations and layers are what the registry had, byte for byte.

Examples:
  bulkhead save -o debian.tar debian:12
  bulkhead save debian nginx | ssh host bulkhead load")]
pub(crate) struct SaveArgs {
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,
}
