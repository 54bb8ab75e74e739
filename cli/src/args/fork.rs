//! `bulkhead fork`.

use clap::Args;

/// Make running containers of a running one, which go on from where it is
#[derive(Debug, Args)]
#[command(after_help = "\
Each has a copy of its memory, of which they share what they do not change, and of its writable disk; and
an id, a name and a generator of random numbers of its own. What was executed in it goes on without input
and output.

Examples:
  bulkhead fork web
  bulkhead fork -n 10 interpreter")]
pub(crate) struct ForkArgs {
    /// How many
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub number: u16,

    /// What to call it, or them, with a number behind [default: as of `run`]
    #[arg(long)]
    pub name: Option<String>,

    /// Remove each when it ends, as is done with copies of one that is removed itself
    #[arg(long)]
    pub rm: bool,

    #[arg(value_name = "CONTAINER")]
    pub container: String,
}
