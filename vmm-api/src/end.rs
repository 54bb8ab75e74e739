//! Why a VM ended.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The VMM's last words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub reason: EndReason,
    /// The console's last lines, invalid UTF-8 replaced.
    pub console: String,
    /// How often the vCPUs left the guest, by kind (`io`, `mmio`, …).
    pub exits: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndReason {
    /// The guest switched itself off.
    PowerOff,
    /// The guest asked for a reset, by the keyboard controller or port 0xcf9.
    Reboot,
    /// The guest's kernel panicked and said so through pvpanic.
    Panic,
    /// The guest's CPU shut down.
    TripleFault,
    /// KVM could not go on: KVM_EXIT_INTERNAL_ERROR or KVM_EXIT_FAIL_ENTRY.
    KvmInternalError { detail: String },
    /// The supervisor said stop, or is gone.
    Stopped,
    /// The VM could not be started.
    Launch { message: String },
    /// A system call outside a thread's filter.
    ForbiddenSystemCall { thread: String, number: i32 },
    /// The VMM itself failed.
    Internal { message: String },
}

/// The VMM's process exit code: it tells the reason where the last message could not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    PowerOff = 0,
    Reboot = 20,
    Panic = 21,
    TripleFault = 22,
    KvmInternalError = 23,
    Stopped = 24,
    Launch = 25,
    ForbiddenSystemCall = 26,
    Internal = 27,
}

impl EndReason {
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::PowerOff => ExitCode::PowerOff,
            Self::Reboot => ExitCode::Reboot,
            Self::Panic => ExitCode::Panic,
            Self::TripleFault => ExitCode::TripleFault,
            Self::KvmInternalError { .. } => ExitCode::KvmInternalError,
            Self::Stopped => ExitCode::Stopped,
            Self::Launch { .. } => ExitCode::Launch,
            Self::ForbiddenSystemCall { .. } => ExitCode::ForbiddenSystemCall,
            Self::Internal { .. } => ExitCode::Internal,
        }
    }
}

impl std::fmt::Display for EndReason {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PowerOff => out.write_str("the guest switched itself off"),
            Self::Reboot => out.write_str("the guest rebooted"),
            Self::Panic => out.write_str("the guest's kernel panicked"),
            Self::TripleFault => out.write_str("the guest's CPU shut down (triple fault)"),
            Self::KvmInternalError { detail } => write!(out, "KVM could not go on: {detail}"),
            Self::Stopped => out.write_str("stopped by its supervisor"),
            Self::Launch { message } => write!(out, "the VM could not be started: {message}"),
            Self::ForbiddenSystemCall { thread, number } => {
                write!(out, "the VMM's {thread} thread made system call {number}, which its filter forbids")
            }
            Self::Internal { message } => write!(out, "the VMM failed: {message}"),
        }
    }
}
