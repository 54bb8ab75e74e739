//! `bulkhead stop` and `bulkhead restart`.

use clap::Args;
use containers::StopTimeout;

use super::Signal;

/// End running containers: ask the command, and kill it when it does not end in time
#[derive(Debug, Args)]
#[command(after_help = "\
CONTAINER is a name, an id, or the beginning of one, as `bulkhead ps` shows them. Several are stopped
at once.

Examples:
  bulkhead stop web
  bulkhead stop --timeout 30 --signal INT web db
  bulkhead stop $(bulkhead ps -q)")]
pub(crate) struct StopArgs {
    #[command(flatten)]
    pub how: StopHow,

    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}

/// End containers and start them again
#[derive(Debug, Args)]
#[command(after_help = "\
One that does not run is just started.

Examples:
  bulkhead restart web
  bulkhead restart --timeout 1 web db")]
pub(crate) struct RestartArgs {
    #[command(flatten)]
    pub how: StopHow,

    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct StopHow {
    /// The signal that asks the command to end [default: the container's stop signal]
    #[arg(short, long)]
    pub signal: Option<Signal>,

    /// Seconds to wait before the command is killed; -1: for ever [default: the container's, 10]
    #[arg(
        short,
        long,
        alias = "time",
        value_name = "SECONDS",
        value_parser = parse_stop_timeout,
        allow_negative_numbers = true
    )]
    pub timeout: Option<StopTimeout>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("write a number of seconds, or -1 for no end")]
pub(crate) struct StopTimeoutError;

pub(super) fn parse_stop_timeout(text: &str) -> Result<StopTimeout, StopTimeoutError> {
    match text.parse::<i64>() {
        Ok(-1) => Ok(StopTimeout::Never),
        Ok(seconds) => u32::try_from(seconds).map(StopTimeout::After).map_err(|_| StopTimeoutError),
        Err(_) => Err(StopTimeoutError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_may_be_none() {
        assert_eq!(parse_stop_timeout("0"), Ok(StopTimeout::After(0)));
        assert_eq!(parse_stop_timeout("-1"), Ok(StopTimeout::Never));
        for text in ["-2", "1.5", "", "9999999999"] {
            assert_eq!(parse_stop_timeout(text), Err(StopTimeoutError), "{text}");
        }
    }
}
