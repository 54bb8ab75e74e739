//! `bulkhead start` and `bulkhead attach`.

use clap::Args;

use super::run::ForegroundArgs;

/// Start containers that do not run
#[derive(Debug, Args)]
#[command(after_help = "\
CONTAINER is a name, an id, or the beginning of one, as `bulkhead ps -a` shows them. One that runs
already is left alone.

Examples:
  bulkhead start web db
  bulkhead start -ai shell")]
pub(crate) struct StartArgs {
    /// Attach to the output of one container, pass signals on, and exit with its code
    #[arg(short, long)]
    pub attach: bool,

    /// Attach standard input as well
    #[arg(short, long)]
    pub interactive: bool,

    #[command(flatten)]
    pub foreground: ForegroundArgs,

    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}

/// Attach to the streams of a running container
#[derive(Debug, Args)]
#[command(after_help = "\
Output shows from now on; `bulkhead logs` has what came before. Signals go on to the command, and
its exit code is Bulkhead's.

Examples:
  bulkhead attach web
  bulkhead attach --no-stdin --sig-proxy=false web")]
pub(crate) struct AttachArgs {
    /// Do not attach standard input
    #[arg(long)]
    pub no_stdin: bool,

    #[command(flatten)]
    pub foreground: ForegroundArgs,

    pub container: String,
}
