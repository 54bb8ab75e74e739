//! The last privileges a process of a running container gives up.
//!
//! libcontainer 0.7 leaves the container's seccomp profile out of what a further process gets. So such a
//! process comes to us with its capabilities whole, and loads the profile and drops them here, in the order
//! libcontainer has for a container's first process: without no-new-privileges, loading a filter takes
//! CAP_SYS_ADMIN (seccomp(2)).

use libcontainer::capabilities::drop_privileges;
use libcontainer::oci_spec::runtime::{LinuxCapabilities, LinuxSeccomp};
use libcontainer::seccomp::{SeccompError, initialize_seccomp};
use libcontainer::syscall::SyscallError;
use libcontainer::syscall::linux::LinuxSyscall;

/// What a process of a running container still has to do to itself before it executes its program.
#[derive(Clone, Default)]
pub(super) struct Privileges {
    pub(super) seccomp: Option<LinuxSeccomp>,
    pub(super) capabilities: Option<LinuxCapabilities>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum PrivilegesError {
    #[error("cannot load the seccomp profile")]
    Seccomp(#[from] SeccompError),
    #[error("cannot drop capabilities")]
    Capabilities(#[from] SyscallError),
}

impl Privileges {
    pub(super) fn give_up(&self) -> Result<(), PrivilegesError> {
        if let Some(seccomp) = &self.seccomp {
            initialize_seccomp(seccomp)?;
        }
        if let Some(capabilities) = &self.capabilities {
            drop_privileges(capabilities, &LinuxSyscall)?;
        }
        Ok(())
    }
}
