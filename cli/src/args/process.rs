//! What a process may be told, whether it is a container's own or a further one.

use std::path::PathBuf;

use clap::Args;

use super::Variable;

/// How the user's streams are wired.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct StdioArgs {
    /// Pass standard input on
    #[arg(short, long, help_heading = "Streams")]
    pub interactive: bool,

    /// Give the command a terminal
    #[arg(short, long, help_heading = "Streams")]
    pub tty: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ProcessArgs {
    /// Set an environment variable; without a value, pass Bulkhead's own on
    #[arg(short, long, value_name = "NAME[=VALUE]", help_heading = "Process")]
    pub env: Vec<Variable>,

    /// Read environment variables from a file, one a line
    #[arg(long, value_name = "FILE", help_heading = "Process")]
    pub env_file: Vec<PathBuf>,

    /// Working directory
    #[arg(short, long, value_name = "PATH", help_heading = "Process")]
    pub workdir: Option<String>,

    /// User, and group, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]", help_heading = "Process")]
    pub user: Option<String>,
}
