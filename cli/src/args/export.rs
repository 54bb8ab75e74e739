//! `bulkhead export`.

use std::path::PathBuf;

use clap::Args;

/// Write a container's whole file system as a tar archive
#[derive(Debug, Args)]
#[command(after_help = "\
What is mounted in the container (/proc, volumes, tmpfs) is left out. The container may be stopped.

Examples:
  bulkhead export -o web.tar web
  bulkhead export web | tar x -C rootfs")]
pub(crate) struct ExportArgs {
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    #[arg(value_name = "CONTAINER")]
    pub container: String,
}
