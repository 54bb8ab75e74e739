//! Health checks: what is asked for, and what was found.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A command that tells by its exit code whether the container is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// As an image configuration has it: `CMD` and arguments, or `CMD-SHELL` and a line.
    pub test: Vec<String>,
    pub interval: Duration,
    pub timeout: Duration,
    /// In which failures do not count.
    pub start_period: Duration,
    /// The interval within the start period.
    pub start_interval: Duration,
    /// Failures in a row that make a container unhealthy.
    pub retries: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    #[default]
    Starting,
    Healthy,
    Unhealthy,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthStatus {
    pub state: HealthState,
    pub failing_streak: u32,
    /// The last few, oldest first.
    pub probes: Vec<Probe>,
}

/// One run of the check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    pub started: Timestamp,
    pub ended: Timestamp,
    /// The command's exit code; -1 when it ran out of time or could not be run.
    pub exit_code: i32,
    /// The beginning of what it said.
    pub output: String,
}

/// How many probes are kept, and how much of the output of each, in bytes.
const KEPT_PROBES: usize = 5;
pub(crate) const MAX_OUTPUT: usize = 4096;

impl HealthState {
    /// As Docker calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl Default for HealthCheck {
    /// Docker's times, and no test.
    fn default() -> Self {
        Self {
            test: Vec::new(),
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            start_period: Duration::ZERO,
            start_interval: Duration::from_secs(5),
            retries: 3,
        }
    }
}

impl HealthCheck {
    /// What to execute; `None` for a test that is none.
    pub fn command(&self) -> Option<Vec<String>> {
        match self.test.split_first() {
            Some((kind, [line])) if kind == "CMD-SHELL" => {
                Some(["/bin/sh", "-c", line.as_str()].map(str::to_owned).to_vec())
            }
            Some((kind, args)) if kind == "CMD" && !args.is_empty() => Some(args.to_vec()),
            _ => None,
        }
    }
}

impl HealthStatus {
    /// Takes a probe in. `in_start_period`: it came so early that a failure does not count.
    pub(crate) fn take(&mut self, probe: Probe, check: &HealthCheck, in_start_period: bool) {
        if probe.exit_code == 0 {
            self.failing_streak = 0;
            self.state = HealthState::Healthy;
        } else if !(in_start_period && self.state == HealthState::Starting) {
            self.failing_streak = self.failing_streak.saturating_add(1);
            if self.failing_streak >= check.retries {
                self.state = HealthState::Unhealthy;
            }
        }
        self.probes.push(probe);
        let excess = self.probes.len().saturating_sub(KEPT_PROBES);
        self.probes.drain(..excess);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(exit_code: i32) -> Probe {
        Probe {
            started: Timestamp::UNIX_EPOCH,
            ended: Timestamp::UNIX_EPOCH,
            exit_code,
            output: String::new(),
        }
    }

    #[test]
    fn enough_failures_in_a_row_make_it_unhealthy_and_one_success_healthy() {
        let check = HealthCheck { retries: 2, ..HealthCheck::default() };
        let mut status = HealthStatus::default();
        let mut states = Vec::new();
        for code in [1, 0, 1, 0, 1, -1, 0] {
            status.take(probe(code), &check, false);
            states.push(status.state);
        }
        use HealthState::{Healthy, Starting, Unhealthy};
        assert_eq!(states, [Starting, Healthy, Healthy, Healthy, Healthy, Unhealthy, Healthy]);
        assert_eq!(status.probes.len(), KEPT_PROBES);
    }

    #[test]
    fn failures_within_the_start_period_do_not_count() {
        let check = HealthCheck { retries: 1, ..HealthCheck::default() };
        let mut status = HealthStatus::default();
        status.take(probe(1), &check, true);
        assert_eq!((status.state, status.failing_streak), (HealthState::Starting, 0));
        status.take(probe(0), &check, true);
        status.take(probe(1), &check, true);
        assert_eq!(status.state, HealthState::Unhealthy, "it had started");
    }

    #[test]
    fn tests_are_commands_or_lines_for_a_shell() {
        let command = |test: &[&str]| {
            HealthCheck { test: test.iter().map(|arg| (*arg).to_owned()).collect(), ..HealthCheck::default() }
                .command()
        };
        assert_eq!(command(&["CMD", "a", "b c"]).unwrap(), ["a", "b c"]);
        assert_eq!(command(&["CMD-SHELL", "a b"]).unwrap(), ["/bin/sh", "-c", "a b"]);
        for none in [&[][..], &["NONE"], &["CMD"], &["CMD-SHELL"], &["other", "x"]] {
            assert_eq!(command(none), None);
        }
    }
}
