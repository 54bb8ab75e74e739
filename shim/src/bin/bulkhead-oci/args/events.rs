//! `bulkhead-oci events`.

use std::time::Duration;

use clap::Args;

/// Print what a container uses, again and again, as lines of JSON
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  bulkhead-oci events --stats web\n  bulkhead-oci events --interval 30s web"
)]
pub(crate) struct EventsArgs {
    /// Once
    #[arg(long)]
    pub stats: bool,

    /// The time between two lines
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub interval: Duration,

    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}

/// Go's form, as far as it makes sense here.
fn duration(text: &str) -> Result<Duration, String> {
    let duration: jiff::SignedDuration =
        text.parse().map_err(|_| "write a number and a unit, such as 5s or 1m30s".to_owned())?;
    match Duration::try_from(duration) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("duration interval must be greater than 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_gos() {
        for (text, seconds) in [("5s", 5), ("1m30s", 90), ("2h", 7200)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for text in ["", "5", "0s", "-5s", "x"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
