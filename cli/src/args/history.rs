//! `bulkhead history`.

use clap::{ArgAction, Args};

use crate::listing::Format;

/// Show how an image was made
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bulkhead history debian
  bulkhead history --no-trunc --format '{{.Size}} {{.CreatedBy}}' debian:12")]
pub(crate) struct HistoryArgs {
    /// table, json, or a Go template for each row
    #[arg(long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    pub format: Format,

    /// Sizes and ages in words; --human=false: bytes and times
    #[arg(short = 'H', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true,
        default_missing_value = "true", action = ArgAction::Set)]
    pub human: bool,

    /// Print each column in full
    #[arg(long)]
    pub no_trunc: bool,

    /// Print ids only
    #[arg(short, long, conflicts_with = "format")]
    pub quiet: bool,

    #[arg(value_name = "IMAGE")]
    pub image: String,
}
