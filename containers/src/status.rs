//! How a container is: written by whoever holds the lock on its directory, read by everyone.

use jiff::Timestamp;
use sandbox::ProcessId;
use serde::{Deserialize, Serialize};

use crate::health::HealthStatus;

/// The exit code of a container whose supervisor crashed: as if it had been killed, which it was.
pub(crate) const CRASHED: u8 = 137;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    pub state: State,
    /// The process that holds the container's lock. One that is named here and holds it no more has crashed.
    pub supervisor: Option<ProcessId>,
    /// Of the last run: the command's, 128 + signal, or why there was none (125, 126, 127).
    pub exit_code: u8,
    pub out_of_memory: bool,
    /// Why the last start or run failed, for people; empty when it did not.
    pub error: String,
    pub started: Option<Timestamp>,
    pub finished: Option<Timestamp>,
    /// How often it was started again by its restart policy.
    pub restarts: u32,
    /// Of a running container with a health check.
    pub health: Option<HealthStatus>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    #[default]
    Created,
    Running,
    Paused,
    /// Between an end and the next start.
    Restarting,
    /// Being removed.
    Removing,
    Exited,
    /// What is left could not be removed.
    Dead,
}

impl State {
    /// As Docker calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }

    /// Whether its supervisor keeps it: also while it pauses, or waits to be started again.
    pub fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }
}

impl Status {
    /// Of a container of which nobody knows any more how it was.
    pub(crate) fn lost() -> Self {
        let error = "how it ended was lost in a crash of this machine".to_owned();
        Self { state: State::Exited, exit_code: CRASHED, error, ..Self::default() }
    }
}

impl Default for Status {
    fn default() -> Self {
        Self {
            state: State::Created,
            supervisor: None,
            exit_code: 0,
            out_of_memory: false,
            error: String::new(),
            started: None,
            finished: None,
            restarts: 0,
            health: None,
        }
    }
}
