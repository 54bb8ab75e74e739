//! `bulkhead snapshot`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::listing::Format;

/// Keep running containers as they are, for others to go on from
#[derive(Debug, Args)]
#[command(after_help = "\
A snapshot holds a container's memory, processes and all, and its writable disk. Its image stays in the
store, and it goes on on the processor it was taken on.

Examples:
  bulkhead snapshot create warm web
  bulkhead run -d --from warm
  bulkhead snapshot ls
  bulkhead snapshot rm warm")]
pub(crate) struct SnapshotArgs {
    #[command(subcommand)]
    pub verb: SnapshotVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotVerb {
    Create(SnapshotCreateArgs),
    #[command(alias = "list")]
    Ls(SnapshotLsArgs),
    Inspect(SnapshotNamesArgs),
    #[command(alias = "remove")]
    Rm(SnapshotNamesArgs),
    Export(SnapshotExportArgs),
    Import(SnapshotImportArgs),
}

/// Keep a running container as it is; it runs on, but for a moment
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bulkhead snapshot create warm web")]
pub(crate) struct SnapshotCreateArgs {
    /// What to call it
    #[arg(value_name = "NAME")]
    pub name: String,

    #[arg(value_name = "CONTAINER")]
    pub container: String,
}

/// List snapshots
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bulkhead snapshot ls
  bulkhead snapshot ls --format json")]
pub(crate) struct SnapshotLsArgs {
    /// table, json, or a Go template for each row
    #[arg(long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    pub format: Format,

    /// Print names only
    #[arg(short, long, conflicts_with = "format")]
    pub quiet: bool,
}

/// Which snapshots
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bulkhead snapshot inspect warm
  bulkhead snapshot rm warm")]
pub(crate) struct SnapshotNamesArgs {
    #[arg(value_name = "NAME", required = true)]
    pub names: Vec<String>,
}

/// Write a snapshot as a tar archive
#[derive(Debug, Args)]
#[command(after_help = "\
Its image is not in the archive: `bulkhead save` writes that.

Examples:
  bulkhead snapshot export -o warm.tar warm")]
pub(crate) struct SnapshotExportArgs {
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    #[arg(value_name = "NAME")]
    pub name: String,
}

/// Read a snapshot that was exported
#[derive(Debug, Args)]
#[command(after_help = "\
Take one only from whom you trust: it is a machine that runs on.

Examples:
  bulkhead snapshot import warm.tar warm")]
pub(crate) struct SnapshotImportArgs {
    /// `-`: standard input
    #[arg(value_name = "FILE|-")]
    pub file: String,

    /// What to call it
    #[arg(value_name = "NAME")]
    pub name: String,
}
