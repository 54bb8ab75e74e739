//! `bulkhead-oci exec`.

use std::path::PathBuf;

use clap::Args;

/// Run a further process in a container that runs
#[derive(Debug, Args)]
#[command(after_help = "\
What is not said is as the container's own process has it.

Examples:
  bulkhead-oci exec web ps
  bulkhead-oci exec --tty --env TERM=xterm web sh
  bulkhead-oci exec --detach --pid-file /run/web-job.pid --process process.json web")]
pub(crate) struct ExecArgs {
    /// Send the terminal's other end over this socket
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,

    /// The working directory
    #[arg(long, value_name = "DIRECTORY")]
    pub cwd: Option<PathBuf>,

    /// Add a variable to the environment
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,

    /// Give it a terminal
    #[arg(short, long)]
    pub tty: bool,

    /// Whom it runs as, by number
    #[arg(short, long, value_name = "UID[:GID]")]
    pub user: Option<String>,

    /// Add a group, by number
    #[arg(short = 'g', long, value_name = "GID")]
    pub additional_gids: Vec<u32>,

    /// Read the whole process from a file, as a configuration's `process`
    #[arg(short, long, value_name = "FILE")]
    pub process: Option<PathBuf>,

    /// Do not wait for its end
    #[arg(short, long)]
    pub detach: bool,

    /// Write the pid of the process's supervisor to a file
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,

    /// The label of SELinux
    #[arg(long, value_name = "LABEL")]
    pub process_label: Option<String>,

    /// The profile of AppArmor
    #[arg(long, value_name = "PROFILE")]
    pub apparmor: Option<String>,

    /// It cannot gain privileges
    #[arg(long)]
    pub no_new_privs: bool,

    /// Add a capability
    #[arg(short, long, value_name = "CAPABILITY")]
    pub cap: Vec<String>,

    /// Only 0: descriptors of the host cannot be a guest's
    #[arg(long, value_name = "COUNT", default_value_t)]
    pub preserve_fds: u32,

    /// Also in a container that is paused: it runs once that goes on
    #[arg(long)]
    pub ignore_paused: bool,

    /// Taken, and of no effect
    #[arg(long, value_name = "PATH", hide = true)]
    pub cgroup: Vec<String>,

    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,

    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}
