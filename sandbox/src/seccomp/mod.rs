//! A container's seccomp profile as the BPF program that a guest's kernel takes.
//!
//! libseccomp is slow at it: of Docker's default profile it takes 10 ms to make a program. So that is done here, on the
//! host, and kept for all containers with the same profile; guests have neither profile nor libseccomp.
//!
//! ```text
//! STATE/.seccomp/KEY          a program as agent-api has it, named after the profile
//! ```

mod compile;
mod kept;

use std::io;

use agent_api::agent;
use oci_spec::runtime::LinuxSeccomp;

use crate::record::StateDir;
use kept::Kept;

/// What a container's processes may ask of their guest's kernel, ready to be loaded (seccomp(2)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeccompFilter {
    /// `struct sock_filter` after `struct sock_filter`.
    program: Vec<u8>,
    /// SECCOMP_FILTER_FLAG_* of linux/seccomp.h.
    flags: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    #[error("the seccomp profile wants a listener told of system calls, and there is none in a guest")]
    Listener,
    #[error("the seccomp profile's error number {0} is not one")]
    ErrorNumber(u32),
    #[error("libseccomp does not take the seccomp profile's {what}")]
    Refused { what: String, source: libseccomp::error::SeccompError },
    #[error("the seccomp profile makes a program of {0} bytes, longer than a kernel takes")]
    TooLong(usize),
    #[error("cannot get the seccomp profile's program")]
    Export(#[source] io::Error),
}

impl SeccompFilter {
    /// The profile's, compiled unless it is kept below `state`.
    pub fn of(profile: &LinuxSeccomp, state: &StateDir) -> Result<Self, SeccompError> {
        let kept = Kept::of(profile, state);
        if let Some(filter) = kept.as_ref().and_then(Kept::load) {
            return Ok(filter);
        }
        let filter = compile::compile(profile)?;
        if let Some(kept) = kept {
            // Where it cannot be kept, the next one compiles again.
            let _ = kept.store(&filter);
        }
        Ok(filter)
    }
}

impl From<SeccompFilter> for agent::SeccompFilter {
    fn from(SeccompFilter { program, flags }: SeccompFilter) -> Self {
        Self { program, flags, ..Default::default() }
    }
}
