//! `bulkhead port`.

use clap::Args;

/// List the ports a container has published
#[derive(Debug, Args)]
#[command(after_help = "\
Containers have no network yet, and so publish none.

Examples:
  bulkhead port web")]
pub(crate) struct PortArgs {
    pub container: String,

    /// One of the container's ports
    #[arg(value_name = "PORT[/PROTOCOL]")]
    pub port: Option<String>,
}
