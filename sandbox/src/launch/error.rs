//! Why a sandbox did not start, and what it was at.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::cgroup::LimitError;
use crate::ended::Ended;
use crate::events::EventError;
use crate::guest::GuestError;
use crate::memory::MemoryError;
use crate::network::NamespaceError;
use crate::record::RecordError;
use crate::scratch::ScratchError;
use crate::vmm::VmmError;

/// What a start was at when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaunchPhase {
    /// The VMM sets up the VM.
    Vm,
    /// The guest's kernel boots, up to its agent.
    Boot,
    /// The agent takes on its identity.
    Adopt,
    /// The VMM saves the VM as a template.
    Save,
}

#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("cannot open {} (`bulkhead doctor` says what this machine lacks)", .path.display())]
    Kvm { path: PathBuf, source: io::Error },
    #[error("cannot open {}", .path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    #[error(transparent)]
    Limits(#[from] LimitError),
    #[error(transparent)]
    Network(#[from] NamespaceError),
    #[error("cannot run {}", .program.display())]
    Spawn { program: PathBuf, source: io::Error },
    #[error("the VM ended while {phase}: {ended}")]
    Ended { phase: LaunchPhase, ended: Arc<Ended> },
    #[error("{phase} failed")]
    Vmm { phase: LaunchPhase, source: VmmError },
    #[error("{phase} failed")]
    Events { phase: LaunchPhase, source: EventError },
    #[error("{phase} failed")]
    Agent { phase: LaunchPhase, source: GuestError },
    #[error("{phase} took more than {} s\n--- last lines of the guest console ---\n{console}", .limit.as_secs())]
    TooLong { phase: LaunchPhase, limit: Duration, console: String },
    #[error("cannot hand the disks' files to the VMM")]
    Duplicate(#[source] io::Error),
    #[error("cannot keep a template")]
    TemplateFiles(#[source] io::Error),
    #[error("no template can be made now: another one is in the making; try again when it is done")]
    TemplateBusy,
    #[error(
        "no template can be made: the state directory is not in memory (tmpfs), or has less than 160 MiB free"
    )]
    TemplateNoRoom,
    #[error("cannot serve other commands of this sandbox")]
    Broker(#[source] io::Error),
}

pub(super) fn failed(phase: LaunchPhase, error: VmmError) -> LaunchError {
    match error {
        VmmError::Ended(ended) => LaunchError::Ended { phase, ended },
        source => LaunchError::Vmm { phase, source },
    }
}

pub(super) fn agent_failed(error: GuestError) -> LaunchError {
    let phase = LaunchPhase::Adopt;
    match error {
        GuestError::Ended(ended) => LaunchError::Ended { phase, ended },
        source => LaunchError::Agent { phase, source },
    }
}

impl fmt::Display for LaunchPhase {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Vm => "setting up the VM",
            Self::Boot => "booting the guest",
            Self::Adopt => "giving the guest its identity",
            Self::Save => "saving the VM",
        })
    }
}
