//! The last privileges a process gives up before it is a container's.
//!
//! libcontainer would have libseccomp compile the container's profile for each first process, and leaves it out of what
//! a further process gets. So all come to us with their capabilities whole, to load the program that the host made of
//! the profile, and to drop them, in libcontainer's order.

use std::fs;
use std::io;
use std::path::Path;

use agent_api::agent::SeccompFilter;
use libcontainer::capabilities::drop_privileges;
use libcontainer::oci_spec::runtime::LinuxCapabilities;
use libcontainer::syscall::SyscallError;
use libcontainer::syscall::linux::LinuxSyscall;
use protobuf::Message;

/// What a process still has to do to itself before it executes its program.
#[derive(Clone)]
pub(super) struct Privileges {
    seccomp: Option<Filter>,
    capabilities: Option<LinuxCapabilities>,
}

#[derive(Clone)]
struct Filter {
    program: Vec<libc::sock_filter>,
    flags: u32,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum PrivilegesError {
    #[error("cannot load the seccomp filter")]
    Seccomp(#[source] io::Error),
    #[error("cannot drop capabilities")]
    Capabilities(#[from] SyscallError),
}

impl Privileges {
    /// The file holds an agent-api SeccompFilter.
    pub(super) fn new(seccomp: Option<&Path>, capabilities: Option<LinuxCapabilities>) -> io::Result<Self> {
        Ok(Self { seccomp: seccomp.map(Filter::read).transpose()?, capabilities })
    }

    /// Without no-new-privileges, loading a filter takes CAP_SYS_ADMIN (seccomp(2)); with it, the filter comes last, so
    /// that it need not allow what dropping capabilities takes.
    pub(super) fn give_up(&self, no_new_privileges: bool) -> Result<(), PrivilegesError> {
        if no_new_privileges {
            self.drop_capabilities()?;
            return self.load_filter();
        }
        self.load_filter()?;
        self.drop_capabilities()
    }

    fn drop_capabilities(&self) -> Result<(), PrivilegesError> {
        if let Some(capabilities) = &self.capabilities {
            drop_privileges(capabilities, &LinuxSyscall)?;
        }
        Ok(())
    }

    fn load_filter(&self) -> Result<(), PrivilegesError> {
        self.seccomp.as_ref().map_or(Ok(()), Filter::load).map_err(PrivilegesError::Seccomp)
    }
}

impl Filter {
    fn read(path: &Path) -> io::Result<Self> {
        let SeccompFilter { program, flags, .. } = SeccompFilter::parse_from_bytes(&fs::read(path)?)?;
        let (instructions, rest) = program.as_chunks();
        if !rest.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the seccomp filter ends within an instruction",
            ));
        }
        Ok(Self { program: instructions.iter().map(instruction).collect(), flags })
    }

    fn load(&self) -> io::Result<()> {
        let length = u16::try_from(self.program.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the seccomp filter is too long"))?;
        // The kernel only reads.
        let program = libc::sock_fprog { len: length, filter: self.program.as_ptr().cast_mut() };
        // SAFETY: program names as many instructions as there are, and it and they outlive the call.
        let loaded = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, self.flags, &raw const program)
        };
        match loaded {
            0 => Ok(()),
            -1 => Err(io::Error::last_os_error()),
            // With TSYNC, the thread that cannot follow (seccomp(2)).
            thread => Err(io::Error::other(format!("thread {thread} cannot be made to follow"))),
        }
    }
}

/// `struct sock_filter` of linux/filter.h.
fn instruction(bytes: &[u8; 8]) -> libc::sock_filter {
    let [code_low, code_high, jt, jf, constant @ ..] = *bytes;
    libc::sock_filter {
        code: u16::from_le_bytes([code_low, code_high]),
        jt,
        jf,
        k: u32::from_le_bytes(constant),
    }
}
