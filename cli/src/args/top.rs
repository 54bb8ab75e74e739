//! `bulkhead top`.

use clap::Args;

/// Show the processes of a running container
#[derive(Debug, Args)]
#[command(after_help = "\
Of ps(1)'s options, -e, -f, -ef, aux and -o with pid, ppid, uid, user, c, %cpu, stime, start, tty, time,
args, cmd, command and comm are understood. Numbers are the container's own.

Examples:
  bulkhead top web
  bulkhead top web -o pid,comm")]
pub(crate) struct TopArgs {
    #[arg(value_name = "CONTAINER")]
    pub container: String,

    #[arg(value_name = "PS OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub options: Vec<String>,
}
