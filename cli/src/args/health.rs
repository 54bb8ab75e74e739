//! The flags of a health check.

use std::time::Duration;

use clap::Args;

use super::span::parse_span;

#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    /// A line for the container's shell that tells by its exit code whether all is well
    #[arg(long, value_name = "COMMAND", help_heading = "Health")]
    pub health_cmd: Option<String>,

    /// Time between two checks, such as 30s or 1m30s [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = parse_span, help_heading = "Health")]
    pub health_interval: Option<Duration>,

    /// Time a check may take [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = parse_span, help_heading = "Health")]
    pub health_timeout: Option<Duration>,

    /// Time after the start in which failures do not count [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = parse_span, help_heading = "Health")]
    pub health_start_period: Option<Duration>,

    /// Time between two checks within the start period [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = parse_span, help_heading = "Health")]
    pub health_start_interval: Option<Duration>,

    /// Failures in a row that make the container unhealthy [default: 3]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Health")]
    pub health_retries: Option<u32>,

    /// Leave out the image's health check
    #[arg(long, conflicts_with = "health_cmd", help_heading = "Health")]
    pub no_healthcheck: bool,
}
