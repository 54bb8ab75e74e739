//! `bulkhead-oci delete`.

use clap::Args;

/// Remove a container that does not run, and all that is left of it
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  bulkhead-oci delete web\n  bulkhead-oci delete --force web db")]
pub(crate) struct DeleteArgs {
    /// One that runs, too; that there is none is no error
    #[arg(short, long)]
    pub force: bool,

    #[arg(value_name = "CONTAINER-ID", required = true)]
    pub ids: Vec<String>,
}
