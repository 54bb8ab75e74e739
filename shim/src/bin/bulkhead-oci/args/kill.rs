//! `bulkhead-oci kill`.

use clap::Args;

/// Send a signal to a container's process
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  bulkhead-oci kill web\n  bulkhead-oci kill web KILL\n  bulkhead-oci kill --all web 9"
)]
pub(crate) struct KillArgs {
    /// To all processes of the container
    #[arg(short, long)]
    pub all: bool,

    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,

    /// By name or number
    #[arg(value_name = "SIGNAL", default_value = "SIGTERM")]
    pub signal: String,
}
