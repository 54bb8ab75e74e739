//! `bulkhead ps`.

use clap::Args;

use super::Filter;
use crate::listing::Format;

/// List containers
#[derive(Debug, Args)]
#[command(after_help = "\
Without --all, those that run. Filters: ancestor=IMAGE, before=CONTAINER, exited=CODE, health=STATE,
id=ID, label=NAME[=VALUE], name=PART, since=CONTAINER, status=STATE. One of several of a kind must
hold (each, of labels), and one of each kind.

Examples:
  bulkhead ps -a
  bulkhead ps -a --filter status=exited --filter label=team=web
  bulkhead ps --format 'table {{.Names}}\\t{{.Status}}'
  bulkhead kill $(bulkhead ps -q)")]
pub(crate) struct PsArgs {
    /// Also those that do not run
    #[arg(short, long)]
    pub all: bool,

    /// Show only containers for which this holds
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<Filter>,

    /// table, json, or a Go template for each row
    #[arg(long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    pub format: Format,

    /// The newest ones, running or not
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub last: Option<usize>,

    /// The newest one, running or not
    #[arg(short, long, conflicts_with = "last")]
    pub latest: bool,

    /// Print ids and commands in full
    #[arg(long)]
    pub no_trunc: bool,

    /// Print ids only
    #[arg(short, long, conflicts_with = "format")]
    pub quiet: bool,

    /// Show how much they have written to their disks
    #[arg(short, long)]
    pub size: bool,
}
