//! `bulkhead prune`, `bulkhead image prune` and `bulkhead container prune`.

use clap::Args;

use super::Filter;

/// Remove what nothing uses: stopped containers, and images without a name
#[derive(Debug, Args)]
#[command(after_help = "\
Filters: label=NAME[=VALUE], label!=NAME[=VALUE], until=TIME (10m, 24h, or a date).

Examples:
  bulkhead prune
  bulkhead prune -af
  bulkhead prune --filter until=24h")]
pub(crate) struct PruneArgs {
    /// All images no container is made from, not only those without a name
    #[arg(short, long)]
    pub all: bool,

    #[command(flatten)]
    pub chosen: PruneChoice,
}

/// Remove images that no container is made from and that have no name
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bulkhead image prune
  bulkhead image prune -a --filter label=temporary")]
pub(crate) struct ImagePruneArgs {
    /// Those with a name as well
    #[arg(short, long)]
    pub all: bool,

    #[command(flatten)]
    pub chosen: PruneChoice,
}

/// Remove containers that do not run
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bulkhead container prune
  bulkhead container prune -f --filter until=24h")]
pub(crate) struct ContainerPruneArgs {
    #[command(flatten)]
    pub chosen: PruneChoice,
}

#[derive(Debug, Args)]
pub(crate) struct PruneChoice {
    /// Only what this holds for
    #[arg(long, value_name = "KEY=VALUE")]
    pub filter: Vec<Filter>,

    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
}
