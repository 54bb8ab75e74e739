//! Why a pod or its containers did not do what was asked, with what a client is told: a kind, and words it knows.

use std::io;
use std::path::PathBuf;

use oci_spec::runtime::Spec;
use sandbox::{
    Cause, CreateError, DiskError, GuestError, InstallationError, LaunchError, LimitError, NamespaceError,
    NetworkError, ProcessorError, RecordError, ResizeError, SeccompError, ShareError, TreeError,
};

use crate::bundle::BundleError;
use crate::guest_spec::Refusal;

/// As the error codes of gRPC have it, which containerd's are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    NotFound,
    AlreadyExists,
    InvalidArgument,
    FailedPrecondition,
    Unavailable,
    Unimplemented,
    Internal,
}

#[derive(Debug, thiserror::Error)]
pub enum PodError {
    #[error(transparent)]
    Installation(#[from] InstallationError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("rootfs {what}")]
    Root { what: String },
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    #[error(transparent)]
    Launch(#[from] LaunchError),
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    #[error("cannot have the pod's network")]
    Network(#[from] NetworkError),
    #[error("cannot share {what}")]
    Tree { what: String, source: TreeError },
    #[error("cannot share files with the guest")]
    Share(#[from] ShareError),
    #[error("cannot open the disk {}", .path.display())]
    OpenDisk { path: PathBuf, source: io::Error },
    #[error("cannot give the guest a disk")]
    Disk(#[from] DiskError),
    #[error("cannot change the size of the VM")]
    Resize(#[from] ResizeError),
    #[error("cannot have the container use more processors")]
    Processors(#[from] ProcessorError),
    #[error("cannot change what the VM may use of the host")]
    Limits(#[from] LimitError),
    // In runc's words: clients look for them to tell exit codes 127 and 126.
    #[error("unable to start container process: exec: {program:?}: {}", not_found(.program))]
    CommandNotFound { program: String },
    #[error("unable to start container process: exec: {program:?}: permission denied")]
    CommandNotExecutable { program: String },
    #[error(transparent)]
    Create(CreateError),
    #[error(transparent)]
    Guest(#[from] GuestError),
}

/// One that is named by a path is looked for nowhere else.
fn not_found(program: &str) -> String {
    if program.contains('/') {
        format!("stat {program}: no such file or directory")
    } else {
        "executable file not found in $PATH".to_owned()
    }
}

impl PodError {
    /// Of a container's process, or one executed in it.
    pub(super) fn create(error: CreateError, spec: &Spec) -> Self {
        let arguments = spec.process().as_ref().and_then(|process| process.args().as_ref());
        Self::process(error, arguments.and_then(|arguments| arguments.first()))
    }

    pub(super) fn process(error: CreateError, program: Option<&String>) -> Self {
        let program = program.cloned().unwrap_or_default();
        match error.cause() {
            Cause::CAUSE_COMMAND_NOT_FOUND => Self::CommandNotFound { program },
            Cause::CAUSE_COMMAND_NOT_EXECUTABLE => Self::CommandNotExecutable { program },
            _ => Self::Create(error),
        }
    }

    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Bundle(BundleError::Missing(_)) => ErrorKind::NotFound,
            Self::Guest(GuestError::NotFound(_)) => ErrorKind::NotFound,
            Self::Guest(GuestError::Ended(_) | GuestError::Gone)
            | Self::Disk(DiskError::Guest(GuestError::Ended(_) | GuestError::Gone)) => ErrorKind::Unavailable,
            Self::Bundle(_)
            | Self::Refused(_)
            | Self::Root { .. }
            | Self::Seccomp(_)
            | Self::Namespace(_)
            | Self::Resize(ResizeError::TooMuch { .. } | ResizeError::Memory(_)) => {
                ErrorKind::InvalidArgument
            }
            Self::Guest(GuestError::Refused(_)) => ErrorKind::FailedPrecondition,
            _ => ErrorKind::Internal,
        }
    }
}

impl PodError {
    /// The error and what it came of, in one line.
    pub fn in_words(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        text
    }
}
