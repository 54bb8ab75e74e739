//! A seccomp filter for each kind of thread: an allow-list of system calls, with their arguments where these
//! matter. Anything else ends the process and is reported.

mod allowed;

use syscall_filter::Call;
use vmm_api::EndReason;

use super::forbidden;

/// A kind of thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thread {
    /// Serves the supervisor, and starts the threads of devices and vCPUs added to the running VM.
    Main,
    Vcpu,
    Balloon,
    Blk,
    Fs,
    Mem,
    Net,
    Pmem,
    Rng,
    Vsock,
}

impl Thread {
    /// What a report of a forbidden system call says.
    pub fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Vcpu => "vcpu",
            Self::Balloon => "balloon",
            Self::Blk => "blk",
            Self::Fs => "fs",
            Self::Mem => "mem",
            Self::Net => "net",
            Self::Pmem => "pmem",
            Self::Rng => "rng",
            Self::Vsock => "vsock",
        }
    }

    fn allowed(self) -> &'static [&'static [Call]] {
        match self {
            // A thread keeps the filters of the one that started it: what the thread of a disk, a share, an interface or a vCPU
            // that is added may do, the main thread has to be allowed too.
            Self::Main => &[
                allowed::EVERY_THREAD,
                allowed::MAIN,
                allowed::BLK,
                allowed::FS,
                allowed::NET,
                allowed::VCPU,
            ],
            Self::Vcpu => &[allowed::EVERY_THREAD, allowed::VCPU],
            Self::Balloon => &[allowed::EVERY_THREAD, allowed::BALLOON],
            Self::Blk => &[allowed::EVERY_THREAD, allowed::BLK],
            Self::Fs => &[allowed::EVERY_THREAD, allowed::FS],
            Self::Mem => &[allowed::EVERY_THREAD, allowed::MEM],
            Self::Net => &[allowed::EVERY_THREAD, allowed::NET],
            Self::Pmem => &[allowed::EVERY_THREAD, allowed::PMEM],
            Self::Rng => &[allowed::EVERY_THREAD, allowed::RNG],
            Self::Vsock => &[allowed::EVERY_THREAD, allowed::VSOCK],
        }
    }
}

/// Confines the calling thread, and those it starts from now on.
pub fn confine(thread: Thread) -> Result<(), EndReason> {
    forbidden::name_thread(thread.name());
    syscall_filter::confine(thread.allowed().iter().copied().flatten()).map_err(|error| EndReason::Internal {
        message: format!("cannot confine the system calls of the {} thread: {error}", thread.name()),
    })
}
