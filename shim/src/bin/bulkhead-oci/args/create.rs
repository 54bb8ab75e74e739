//! `bulkhead-oci create`, and what it has in common with `run`.

use std::path::PathBuf;

use clap::Args;

/// Make a container, ready to be started
#[derive(Debug, Args)]
#[command(after_help = "\
The container's streams are those of this command. Its virtual machine runs, and its process waits for `start`.

Examples:
  bulkhead-oci create --bundle /srv/web --pid-file /run/web.pid web
  bulkhead-oci start web")]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub starting: StartingArgs,

    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}

#[derive(Debug, Args)]
pub(crate) struct StartingArgs {
    /// The directory of the bundle
    #[arg(short, long, value_name = "DIRECTORY", default_value = ".")]
    pub bundle: PathBuf,

    /// Send the terminal's other end over this socket, for a process with a terminal
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,

    /// Write the pid of the container's supervisor to a file
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,

    /// Taken, and of no effect: the guest's root is not the host's matter
    #[arg(long)]
    pub no_pivot: bool,

    /// Taken, and of no effect: keys of the host are out of a guest's reach
    #[arg(long)]
    pub no_new_keyring: bool,

    /// Only 0: descriptors of the host cannot be a guest's
    #[arg(long, value_name = "COUNT", default_value_t)]
    pub preserve_fds: u32,
}
