//! What a container or a further process in it is made of, and why one could not be made.

use std::io;

use agent_api::agent;
use oci_spec::runtime;
use protobuf::MessageField;
use tokio::net::UnixStream;

pub use agent::{Cause, Phase};

use crate::guest::GuestError;
use crate::guest_text;
use crate::seccomp::SeccompFilter;

/// A container to be created.
#[derive(Debug, Clone)]
pub struct ContainerConfig {
    /// Unique in its sandbox.
    pub id: String,
    /// The agent sets `root.path`; instead of a seccomp profile there is `seccomp`.
    pub spec: runtime::Spec,
    /// Of all its processes; `None`: they may ask the guest's kernel for anything.
    pub seccomp: Option<SeccompFilter>,
    /// [`Sandbox::rootfs`](crate::Sandbox::rootfs) has the disks it was launched with.
    pub rootfs: Rootfs,
    pub stdio: Stdio,
    /// An image's User ("name", "uid", "name:group" …), looked up inside the rootfs. Empty: the spec's
    /// `process.user` stands.
    pub user: String,
    /// Files bound over paths of the container.
    pub files: Vec<File>,
    /// Whether the process runs below a small init, which is PID 1, passes signals on and reaps orphans.
    pub init: bool,
    /// `None`: as the spec has it, one of its own.
    pub shared_pids: Option<SharedPids>,
}

/// Whose PID namespace a container's processes are in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SharedPids {
    /// One of the sandbox's, for all containers that ask for it. Its PID 1 belongs to none of them.
    Sandbox,
    /// That of the running container with this id.
    Container(String),
}

/// A further process in a running container.
#[derive(Debug, Clone)]
pub struct ExecConfig {
    pub container_id: String,
    /// Unique in its container, not empty.
    pub exec_id: String,
    /// args, env, cwd and user count.
    pub process: runtime::Process,
    pub stdio: Stdio,
    /// As in [`ContainerConfig::user`].
    pub user: String,
}

/// What a root file system is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rootfs {
    /// Disks, by serial.
    Layers {
        /// EROFS disks, lowest first.
        layers: Vec<String>,
        /// The ext4 disk that takes the writes; `None` for a rootfs that takes none.
        scratch: Option<String>,
    },
    /// A directory of the host, by its [`Share::name`](crate::Share::name).
    Share { name: String, read_only: bool },
    /// One disk with a file system of its own.
    Disk {
        serial: String,
        /// ext4, xfs or erofs.
        file_system: String,
        /// For its file system, separated by commas.
        options: String,
        /// Of its mount, as mount(2) has them.
        flags: u32,
        read_only: bool,
    },
}

/// A file the agent makes and binds over a path of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub destination: String,
    pub content: Vec<u8>,
    pub mode: u32,
}

/// Which streams a process has; the rest is /dev/null. With a terminal, `stderr` counts for nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stdio {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// The terminal's first size, for a process that gets one.
    pub terminal: Option<TerminalSize>,
}

/// In characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    pub rows: u32,
    pub columns: u32,
}

/// The host's ends of a process's streams, those of [`Stdio`] that were asked for. Shutting stdin's write
/// side is end-of-file for the process; its outputs end with end-of-file.
#[derive(Debug, Default)]
pub struct Streams {
    pub stdin: Option<UnixStream>,
    pub stdout: Option<UnixStream>,
    pub stderr: Option<UnixStream>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// As a shell tells it: the exit code, or 128 + signal.
    pub code: u8,
    /// Whether the container ran into its memory limit while the process lived.
    pub out_of_memory: bool,
}

/// Why a container or process could not be created or started.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    #[error("{}: {message}", doing(*phase))]
    Refused { phase: Phase, cause: Cause, message: String },
    #[error("cannot encode the container's configuration")]
    Encode(#[from] serde_json::Error),
    #[error("cannot open the {stream} stream")]
    Stream { stream: &'static str, source: io::Error },
    #[error("the agent's answer is not of its contract")]
    NoAnswer,
    #[error(transparent)]
    Guest(#[from] GuestError),
}

impl From<SharedPids> for agent::SharedPids {
    fn from(shared: SharedPids) -> Self {
        let container_id = match shared {
            SharedPids::Sandbox => String::new(),
            SharedPids::Container(id) => id,
        };
        Self { container_id, ..Default::default() }
    }
}

impl CreateError {
    /// What the user's command is to blame for, if anything: a front end's exit codes 126 and 127.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Refused { cause, .. } => *cause,
            _ => Cause::CAUSE_OTHER,
        }
    }

    pub(crate) fn refused(failure: agent::Failure) -> Self {
        Self::Refused {
            phase: failure.phase.enum_value_or_default(),
            cause: failure.cause.enum_value_or_default(),
            message: guest_text::message(&failure.message),
        }
    }
}

/// A phase as the beginning of an error message.
fn doing(phase: Phase) -> &'static str {
    match phase {
        Phase::PHASE_UNSPECIFIED => "cannot make the container",
        Phase::PHASE_REQUEST => "the container's configuration is at fault",
        Phase::PHASE_DISKS => "cannot find the container's disks",
        Phase::PHASE_ROOTFS => "cannot mount the container's root file system",
        Phase::PHASE_USER => "cannot look up the user",
        Phase::PHASE_CREATE => "cannot create the container",
        Phase::PHASE_START => "cannot start the process",
    }
}

impl From<TerminalSize> for agent::TerminalSize {
    fn from(size: TerminalSize) -> Self {
        Self { rows: size.rows, columns: size.columns, ..Default::default() }
    }
}

impl From<Rootfs> for agent::Rootfs {
    fn from(rootfs: Rootfs) -> Self {
        match rootfs {
            Rootfs::Layers { layers, scratch } => {
                Self { layers, scratch: scratch.unwrap_or_default(), ..Default::default() }
            }
            Rootfs::Share { name, read_only } => Self { share: name, read_only, ..Default::default() },
            Rootfs::Disk { serial, file_system, options, flags, read_only } => {
                let disk = agent::DiskRoot { serial, file_system, options, flags, ..Default::default() };
                Self { disk: MessageField::some(disk), read_only, ..Default::default() }
            }
        }
    }
}

impl From<File> for agent::File {
    fn from(file: File) -> Self {
        Self { destination: file.destination, content: file.content, mode: file.mode, ..Default::default() }
    }
}
