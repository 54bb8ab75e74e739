//! What the processes of this program say to each other: JSON in packets, with descriptors beside it.
//!
//! A supervisor is started with one end of a socket pair. Over it come [`Orders`]; it answers [`News::Launched`], waits for
//! [`Proceed`], and answers [`News::Ready`], after which its parent may go. If that goes before, so does the supervisor.
//!
//! The supervisor of a pod's first container, or of one that is alone, has the virtual machine, and serves everybody else on
//! the socket [`SOCKET`] in that container's directory: the commands, and the supervisors of the pod's other containers and
//! of further processes. Those two stay connected: their connection is the process's, and ends it when it closes.

use std::path::PathBuf;

use oci_spec::runtime::LinuxResources;
use sandbox::{Stdio, Streams, TerminalSize};
use serde::{Deserialize, Serialize};

use crate::log::Log;

/// The control socket's name in a container's directory.
pub(crate) const SOCKET: &str = "control";

/// What a supervisor is started for. If `console`, the console socket's descriptor comes first.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// Absolute.
    pub root: PathBuf,
    pub id: String,
    pub console: bool,
    /// To be entered.
    pub cgroup: Option<PathBuf>,
    pub log: Log,
    pub task: Task,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Task {
    /// A container that has the virtual machine to itself, or makes it for a pod.
    Pod { bundle: PathBuf },
    /// A container in the virtual machine of the container `pod`.
    Member { bundle: PathBuf, pod: String },
    /// A further process; what it is comes in a blob.
    Exec { pod: String },
}

/// What a supervisor tells of its start.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum News {
    /// Its process is where the container's is to be: in the pod's network namespace.
    Launched,
    Ready,
    Failed(String),
}

/// The hooks have run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Proceed;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Whose matter it is, by id.
    pub container: String,
    pub ask: Ask,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// From a member's supervisor. Answered by [`Reply::Made`], and by [`Reply::Exited`] later.
    Create {
        bundle: PathBuf,
        wanted: Wanted,
    },
    /// From a process's supervisor, with the process in a blob. Answered as [`Ask::Create`].
    Exec {
        wanted: Wanted,
    },
    Start,
    /// To the connection's own process, if it has one; else to the container's.
    Signal {
        signal: u32,
        all: bool,
    },
    /// Of the connection's own process.
    Resize {
        rows: u32,
        columns: u32,
    },
    Pause,
    Resume,
    Update(Box<LinuxResources>),
    /// Answered by [`Reply::Blob`]: [`Processes`].
    Processes,
    /// Answered by [`Reply::Blob`]: runc's statistics.
    Stats,
    /// Ends the container, in what state ever it is. The connection closes when its supervisor, and with it all it had, is
    /// gone, where that is the one that has the virtual machine.
    Destroy,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Done,
    Refused(String),
    /// Comes with the descriptors of the streams.
    Made(Wiring),
    /// The connection's own process has ended, and its output is drained.
    Exited(u8),
    Blob,
}

/// The streams a process is to have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// Rows and columns of its terminal.
    pub terminal: Option<(u32, u32)>,
}

/// Which streams there are, in the order of their descriptors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wiring {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// What runs in a container, by its own pids.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Processes {
    pub listed: Vec<ProcessLine>,
    pub more: bool,
}

/// As `ps -ef` prints it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ProcessLine {
    pub pid: u32,
    pub parent: u32,
    pub uid: u32,
    pub cpu_percent: u64,
    /// Seconds since 1970-01-01 UTC.
    pub started: u64,
    pub terminal: String,
    /// Of processor time.
    pub seconds: u64,
    pub command: String,
}

impl From<Wanted> for Stdio {
    fn from(wanted: Wanted) -> Self {
        let Wanted { stdin, stdout, stderr, terminal } = wanted;
        let terminal = terminal.map(|(rows, columns)| TerminalSize { rows, columns });
        Self { stdin, stdout, stderr, terminal }
    }
}

impl Wiring {
    pub(crate) fn of(streams: &Streams) -> Self {
        Self {
            stdin: streams.stdin.is_some(),
            stdout: streams.stdout.is_some(),
            stderr: streams.stderr.is_some(),
        }
    }
}
