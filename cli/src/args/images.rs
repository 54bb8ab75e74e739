//! `bulkhead images`.

use clap::Args;

use super::Filter;
use crate::listing::Format;

/// List the images that are stored here
#[derive(Debug, Args)]
#[command(after_help = "\
Filters: reference=PATTERN, dangling=true|false, label=NAME[=VALUE], before=IMAGE, since=IMAGE.

Examples:
  bulkhead images
  bulkhead images debian
  bulkhead images --filter dangling=true -q
  bulkhead images --format 'table {{.Repository}}:{{.Tag}}\\t{{.Size}}'")]
pub(crate) struct ImagesArgs {
    /// Accepted for Docker's sake: there are no intermediate images
    #[arg(short, long)]
    pub all: bool,

    /// Show the manifests' digests
    #[arg(long)]
    pub digests: bool,

    /// Show only images for which this holds
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<Filter>,

    /// table, json, or a Go template for each row
    #[arg(long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    pub format: Format,

    /// Print ids in full
    #[arg(long)]
    pub no_trunc: bool,

    /// Print ids only
    #[arg(short, long, conflicts_with = "format")]
    pub quiet: bool,

    /// Only this repository's, or only this tag; `*` stands for any characters
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub reference: Option<String>,
}
