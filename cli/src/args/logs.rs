//! `bulkhead logs`.

use std::str::FromStr;

use clap::Args;

use super::Moment;

/// Show what a container has written
#[derive(Debug, Args)]
#[command(after_help = "\
What the command wrote to stdout and stderr comes out there again.

Examples:
  bulkhead logs web
  bulkhead logs -f --tail 20 web
  bulkhead logs --timestamps --since 10m web 2>&1 | grep error")]
pub(crate) struct LogsArgs {
    /// Go on with what comes, until the container ends
    #[arg(short, long)]
    pub follow: bool,

    /// Show the last lines only: a number, or all
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all")]
    pub tail: Tail,

    /// Put before each line when it came
    #[arg(short, long)]
    pub timestamps: bool,

    /// Show what came since a time, such as 2026-11-24T15:04:05Z or 10m
    #[arg(long, value_name = "TIME")]
    pub since: Option<Moment>,

    /// Show what came before a time
    #[arg(long, value_name = "TIME")]
    pub until: Option<Moment>,

    pub container: String,
}

/// How many of the last lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    All,
    Lines(u64),
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("write a number of lines, or all")]
pub(crate) struct TailError;

impl FromStr for Tail {
    type Err = TailError;

    fn from_str(text: &str) -> Result<Self, TailError> {
        match text {
            "all" | "-1" => Ok(Self::All),
            _ => text.parse().map(Self::Lines).map_err(|_| TailError),
        }
    }
}
