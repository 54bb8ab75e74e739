//! `bulkhead supervise`: not for people.

use clap::Args;

/// Keep a container while it runs; started by run and start, with a connection as standard input
#[derive(Debug, Args)]
pub(crate) struct SuperviseArgs {
    /// For whoever looks at the list of processes: what it is to do comes over the connection
    #[arg(value_name = "ID")]
    _id: String,
}
