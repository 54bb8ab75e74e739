//! `bulkhead logout`.

use clap::Args;

/// Forget the login to a registry
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bulkhead logout
  bulkhead logout localhost:5000")]
pub(crate) struct LogoutArgs {
    /// The registry's host, and port
    #[arg(value_name = "SERVER", default_value = "docker.io")]
    pub server: String,
}
