//! What a container's supervisor and its clients say to each other: JSON in packets, with descriptors beside
//! it, on a socket in the container's directory.
//!
//! The first connection a supervisor has is the one it was started with; [`Request::Start`] is the first
//! request on it. A client may stay connected and say nothing, to see when the supervisor is done: then the
//! connection closes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sandbox::{Stamp, TerminalSize};
use serde::{Deserialize, Serialize};

/// The socket's name in the container's directory.
pub(crate) const SOCKET: &str = "supervisor";

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Comes with the container's locked directory and the bound socket, then the descriptors of `wiring`.
    /// Answered by [`Reply::Done`] once the command runs.
    Start {
        id: String,
        wiring: Option<Wiring>,
        timed: bool,
    },
    /// Comes with the descriptors of the wiring. Answered by [`Reply::Done`], and by [`Reply::Ended`] later.
    Attach {
        wiring: Wiring,
    },
    /// Answered by [`Reply::Ended`] when this run ends.
    Wait,
    Signal {
        signal: u32,
    },
    Resize {
        rows: u32,
        columns: u32,
    },
    /// Ends the container and keeps it from being started again. Answered by [`Reply::Ended`]. What is not said
    /// is as the container's configuration has it.
    Stop {
        signal: Option<u32>,
        timeout: Option<crate::config::StopTimeout>,
    },
    Pause,
    Unpause,
    /// Fills an empty directory with a copy of the sandbox. Answered by [`Reply::Copied`].
    Snapshot {
        directory: PathBuf,
    },
    /// The client's reader of an output has gone: the command is to know, as it would with a pipe.
    Unread {
        stderr: bool,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Done,
    Refused(String),
    /// The copy is whole; the container stood still for so long, in ns.
    Copied {
        stood: u64,
    },
    /// The answer to a start that came to nothing.
    Failed(Failure),
    Ended(Ended),
}

/// Which streams a client has attached, in the order of their descriptors: sockets whose other ends are the
/// client's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wiring {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// The client's terminal, in characters.
    pub terminal: Option<Size>,
}

/// In characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    pub rows: u32,
    pub columns: u32,
}

/// Why a container could not be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub message: String,
    /// What a command that wanted to run it exits with: 125, 126 or 127.
    pub code: u8,
}

/// How a run of a container ended, and all that is left of it is done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub code: u8,
    pub out_of_memory: bool,
    /// Why there is no exit code of the command, for people; empty when there is one.
    pub error: String,
    /// For whom the start was timed: when each step was done, and how often the vCPUs left the guest.
    pub stamps: Vec<Stamp>,
    pub kvm_exits: BTreeMap<String, u64>,
}

impl From<Size> for TerminalSize {
    fn from(size: Size) -> Self {
        Self { rows: size.rows, columns: size.columns }
    }
}

impl From<TerminalSize> for Size {
    fn from(size: TerminalSize) -> Self {
        Self { rows: size.rows, columns: size.columns }
    }
}
