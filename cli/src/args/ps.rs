//! `bulkhead ps`.

use clap::{Args, ValueEnum};

/// List the sandboxes that are running
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bulkhead ps
  bulkhead ps --format json | jq -r '.[].name'
  bulkhead kill $(bulkhead ps -q)")]
pub(crate) struct PsArgs {
    /// How to print the list
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,

    /// Print ids only
    #[arg(short, long, conflicts_with = "format")]
    pub quiet: bool,

    /// Print ids and commands in full
    #[arg(long)]
    pub no_trunc: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For programs: one JSON array
    Json,
}
