//! `bulkhead inspect`.

use clap::{Args, ValueEnum};

/// Print all that is known of containers and images
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bulkhead inspect web
  bulkhead inspect -f '{{.State.Status}} {{.State.ExitCode}}' web
  bulkhead inspect --type image --format '{{json .Config.Env}}' debian")]
pub(crate) struct InspectArgs {
    /// json, or a Go template [default: indented JSON, all in one array]
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<String>,

    /// Show how much containers have written
    #[arg(short, long)]
    pub size: bool,

    /// Look for things of this kind only [default: containers, then images]
    #[arg(long = "type", value_enum, value_name = "KIND")]
    pub kind: Option<Kind>,

    #[arg(value_name = "NAME|ID", required = true)]
    pub names: Vec<String>,
}

impl InspectArgs {
    /// Looks for things of one kind, whatever the command line says.
    pub(super) fn only(self, kind: Kind) -> Self {
        Self { kind: Some(kind), ..self }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Container,
    Image,
}
