//! `bulkhead df`.

use clap::Args;

use crate::listing::Format;

/// Show what images and containers take of the disk
#[derive(Debug, Args)]
#[command(after_help = "\
Layers are kept once, however many images have them: SHARED is what others have as well, UNIQUE what
would be given back if the image went.

Examples:
  bulkhead df
  bulkhead df -v
  bulkhead df --format '{{.Type}}: {{.Size}}'")]
pub(crate) struct DfArgs {
    /// table, json, or a Go template for each row
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "table",
        hide_default_value = true,
        conflicts_with = "verbose"
    )]
    pub format: Format,

    /// Show each image and container
    #[arg(short, long)]
    pub verbose: bool,
}
