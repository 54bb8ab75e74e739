//! `bulkhead-oci run`.

use clap::Args;

use super::StartingArgs;

/// Make a container, run it, and remove it when it has ended
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  bulkhead-oci run --bundle /srv/web web\n  bulkhead-oci run --detach --keep web"
)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub starting: StartingArgs,

    /// Do not wait for its end
    #[arg(short, long)]
    pub detach: bool,

    /// Do not remove it when it has ended
    #[arg(long)]
    pub keep: bool,

    /// Taken, and of no effect
    #[arg(long, hide = true)]
    pub no_subreaper: bool,

    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}
