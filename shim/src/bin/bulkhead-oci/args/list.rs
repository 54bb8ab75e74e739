//! `bulkhead-oci list`.

use clap::{Args, ValueEnum};

/// List the containers
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  bulkhead-oci list\n  bulkhead-oci --root /run/user/1000/x list --format json"
)]
pub(crate) struct ListArgs {
    #[arg(short, long, value_enum, default_value_t, help = "How to print them")]
    pub format: TableOrJson,

    /// Only their ids
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableOrJson {
    #[default]
    Table,
    Json,
}
