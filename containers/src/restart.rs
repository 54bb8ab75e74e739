//! Restart policies: whether a container that ended is started again, and after which pause.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Between an end and the next start; doubled each time, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A run that lasted as long begins anew with the first pause.
const STEADY: Duration = Duration::from_secs(10);

/// As Docker's `--restart`. Without a daemon, nothing starts a container again once its supervisor is gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    #[default]
    No,
    /// `None`: any number of times.
    OnFailure {
        most: Option<u32>,
    },
    Always,
    UnlessStopped,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("write no, on-failure, on-failure:COUNT, always or unless-stopped")]
pub struct RestartPolicyError;

/// How often and after which pauses a container was started again.
#[derive(Debug, Default)]
pub(crate) struct Restarts {
    /// Since somebody started it.
    count: u32,
    pause: Duration,
}

impl Restarts {
    /// After a run of `lasted` that ended with `code`: how long to wait before the next, if there is one.
    pub(crate) fn next(&mut self, policy: RestartPolicy, code: u8, lasted: Duration) -> Option<Duration> {
        let again = match policy {
            RestartPolicy::No => false,
            RestartPolicy::OnFailure { most } => code != 0 && most.is_none_or(|most| self.count < most),
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        };
        if !again {
            return None;
        }
        self.count = self.count.saturating_add(1);
        self.pause = if self.pause.is_zero() || lasted >= STEADY {
            FIRST_PAUSE
        } else {
            (self.pause * 2).min(LONGEST_PAUSE)
        };
        Some(self.pause)
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }
}

impl FromStr for RestartPolicy {
    type Err = RestartPolicyError;

    fn from_str(text: &str) -> Result<Self, RestartPolicyError> {
        match text.split_once(':') {
            None => match text {
                "no" | "" => Ok(Self::No),
                "on-failure" => Ok(Self::OnFailure { most: None }),
                "always" => Ok(Self::Always),
                "unless-stopped" => Ok(Self::UnlessStopped),
                _ => Err(RestartPolicyError),
            },
            Some(("on-failure", most)) => match most.parse() {
                Ok(0) => Ok(Self::OnFailure { most: None }),
                Ok(most) => Ok(Self::OnFailure { most: Some(most) }),
                Err(_) => Err(RestartPolicyError),
            },
            Some(_) => Err(RestartPolicyError),
        }
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => out.write_str("no"),
            Self::OnFailure { most: None } => out.write_str("on-failure"),
            Self::OnFailure { most: Some(most) } => write!(out, "on-failure:{most}"),
            Self::Always => out.write_str("always"),
            Self::UnlessStopped => out.write_str("unless-stopped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_up_to_a_minute_and_begin_anew_after_a_steady_run() {
        let mut restarts = Restarts::default();
        let pauses: Vec<u128> = (0..12)
            .filter_map(|_| restarts.next(RestartPolicy::Always, 0, SHORT))
            .map(|pause| pause.as_millis())
            .collect();
        let expected = [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 60_000, 60_000];
        assert_eq!(pauses, expected);
        assert_eq!(restarts.next(RestartPolicy::Always, 0, STEADY), Some(FIRST_PAUSE));
        assert_eq!(restarts.count(), 13);
    }

    #[test]
    fn a_failure_is_what_on_failure_wants_and_only_so_often() {
        let policy = RestartPolicy::OnFailure { most: Some(2) };
        let mut restarts = Restarts::default();
        assert_eq!(restarts.next(policy, 0, SHORT), None);
        assert!(restarts.next(policy, 1, SHORT).is_some() && restarts.next(policy, 1, SHORT).is_some());
        assert_eq!(restarts.next(policy, 1, SHORT), None);
        assert_eq!(Restarts::default().next(RestartPolicy::No, 1, SHORT), None);
    }

    #[test]
    fn policies_are_written_as_they_are_read() {
        for text in ["no", "on-failure", "on-failure:3", "always", "unless-stopped"] {
            assert_eq!(text.parse::<RestartPolicy>().unwrap().to_string(), text);
        }
        assert_eq!("on-failure:0".parse(), Ok(RestartPolicy::OnFailure { most: None }));
        for text in ["sometimes", "always:1", "on-failure:", "on-failure:-1", "no:1"] {
            assert_eq!(text.parse::<RestartPolicy>(), Err(RestartPolicyError), "{text}");
        }
    }
}
