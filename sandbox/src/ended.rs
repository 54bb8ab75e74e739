//! How a sandbox's VM ended: by what the VMM said, or by how its process went when it said nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use vmm_api::{End, EndReason, ExitCode};

use crate::guest_text;

/// SIGSYS on x86_64 and aarch64: what a seccomp filter kills with.
const SIGSYS: i32 = 31;

/// The end of a VM and what is known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub reason: Reason,
    /// The last lines of the guest's console.
    pub console: String,
    /// How often the vCPUs left the guest, by kind; empty when the VMM did not live to tell.
    pub exits: BTreeMap<String, u64>,
    /// The last lines the VMM wrote to its standard error.
    pub diagnostics: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The VMM's last message.
    Told(EndReason),
    /// No last message; the VMM exited with one of [`ExitCode`]'s values.
    Coded(ExitCode),
    /// No last message; the VMM exited with a code of nobody's.
    Exited(i32),
    /// No last message; a signal killed the VMM.
    Killed { signal: i32 },
    /// What it said was no message, or its process could not be waited for.
    Lost(String),
}

impl Ended {
    /// From the VMM's last message.
    pub(crate) fn told(end: End, diagnostics: String) -> Self {
        Self {
            reason: Reason::Told(end.reason),
            console: guest_text::console(&end.console),
            exits: end.exits,
            diagnostics,
        }
    }

    /// From the process status alone.
    pub(crate) fn untold(status: std::io::Result<ExitStatus>, diagnostics: String) -> Self {
        let reason = match status {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => named(code).map_or(Reason::Exited(code), Reason::Coded),
                (None, Some(signal)) => Reason::Killed { signal },
                (None, None) => Reason::Lost(status.to_string()),
            },
            Err(error) => Reason::Lost(error.to_string()),
        };
        Self::lost(reason, diagnostics)
    }

    /// For a VMM that left nothing but its reason.
    pub(crate) fn lost(reason: Reason, diagnostics: String) -> Self {
        Self { reason, console: String::new(), exits: BTreeMap::new(), diagnostics }
    }

    /// What an error message shows below its first line: the last lines of the console and of the VMM,
    /// empty when there are none.
    pub fn details(&self) -> String {
        let mut out = String::new();
        for (title, text) in [("guest console", &self.console), ("bulkhead-vmm", &self.diagnostics)] {
            let text = text.trim();
            if !text.is_empty() {
                out.push_str(&format!("\n--- last lines of the {title} ---\n{text}"));
            }
        }
        out
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}{}", self.reason, self.details())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Told(reason) => write!(out, "{reason}"),
            Self::Coded(ExitCode::PowerOff) => out.write_str("the guest switched itself off"),
            Self::Coded(ExitCode::Reboot) => out.write_str("the guest rebooted"),
            Self::Coded(ExitCode::Panic) => out.write_str("the guest's kernel panicked"),
            Self::Coded(ExitCode::TripleFault) => out.write_str("the guest's CPU shut down (triple fault)"),
            Self::Coded(ExitCode::KvmInternalError) => out.write_str("KVM could not go on"),
            Self::Coded(ExitCode::Stopped) => out.write_str("stopped by its supervisor"),
            Self::Coded(ExitCode::Launch) => out.write_str("the VM could not be started"),
            Self::Coded(ExitCode::ForbiddenSystemCall) => {
                out.write_str("the VMM made a system call its filter forbids")
            }
            Self::Coded(ExitCode::Internal) => out.write_str("the VMM failed"),
            Self::Exited(code) => write!(out, "the VMM exited with code {code} and no last word"),
            Self::Killed { signal: SIGSYS } => {
                out.write_str("the VMM made a system call its filter forbids (SIGSYS)")
            }
            Self::Killed { signal } => write!(out, "the VMM was killed by signal {signal}"),
            Self::Lost(why) => write!(out, "the VMM is gone: {why}"),
        }
    }
}

/// The reason behind a process exit code.
fn named(code: i32) -> Option<ExitCode> {
    [
        ExitCode::PowerOff,
        ExitCode::Reboot,
        ExitCode::Panic,
        ExitCode::TripleFault,
        ExitCode::KvmInternalError,
        ExitCode::Stopped,
        ExitCode::Launch,
        ExitCode::ForbiddenSystemCall,
        ExitCode::Internal,
    ]
    .into_iter()
    .find(|known| *known as i32 == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wait status as wait(2) encodes it.
    fn status(raw: i32) -> std::io::Result<ExitStatus> {
        Ok(ExitStatus::from_raw(raw))
    }

    #[test]
    fn every_silent_end_is_told_apart() {
        let reason = |raw| Ended::untold(status(raw), String::new()).reason;
        assert_eq!(reason(21 << 8), Reason::Coded(ExitCode::Panic));
        assert_eq!(reason(101 << 8), Reason::Exited(101));
        assert_eq!(reason(9), Reason::Killed { signal: 9 });
        assert!(Reason::Killed { signal: 31 }.to_string().contains("forbids"));
    }

    #[test]
    fn the_message_carries_the_consoles_last_lines() {
        let end = End {
            reason: EndReason::Panic,
            console: "Kernel panic - not syncing: no init\n".to_owned(),
            exits: BTreeMap::new(),
        };
        let told = Ended::told(end, String::new()).to_string();
        assert!(told.starts_with("the guest's kernel panicked\n"));
        assert!(told.contains("no init") && !told.contains("bulkhead-vmm"));
    }
}
