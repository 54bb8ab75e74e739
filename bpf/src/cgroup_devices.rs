//! Programs that say what the processes of a cgroup may do with devices (Linux Documentation/admin-guide/cgroup-v2.rst,
//! "Device controller").

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use crate::call::call;
use crate::instruction::{Instruction, exit, set};
use crate::program::{Purpose, load};

// As in linux/bpf.h.
const PROG_ATTACH: libc::c_int = 8;
const PURPOSE: Purpose = Purpose { program_type: 15, attach_type: 6 };
/// With it, cgroups below may have programs of their own: all are asked, and all must agree.
const F_ALLOW_MULTI: u32 = 1 << 1;

/// What a program is asked about, `struct bpf_cgroup_dev_ctx` of linux/bpf.h: where its fields are, and what is in them.
pub mod context {
    /// The kind of the device; above it, by so many bits, what is to be done with it.
    pub const ACCESS_TYPE: i16 = 0;
    pub const ACCESS_SHIFT: i32 = 16;
    pub const MAJOR: i16 = 4;
    pub const MINOR: i16 = 8;

    pub const BLOCK: i32 = 1;
    pub const CHARACTER: i32 = 2;

    pub const MAKE: i32 = 1;
    pub const READ: i32 = 2;
    pub const WRITE: i32 = 4;
}

/// A program that is for all that is asked.
pub fn allow_all() -> [Instruction; 2] {
    const RESULT: u8 = 0;
    [set(RESULT, 1), exit()]
}

/// A program that the kernel has.
#[derive(Debug)]
pub struct DeviceProgram(OwnedFd);

impl DeviceProgram {
    pub fn load(program: &[Instruction]) -> io::Result<Self> {
        load(program, &PURPOSE).map(Self)
    }

    /// Has it decide for a cgroup and those below it, for as long as there is the cgroup: 1 is yes, 0 is no.
    pub fn attach(&self, cgroup: impl AsFd) -> io::Result<()> {
        attach(&self.0, cgroup)
    }
}

fn attach(program: &OwnedFd, cgroup: impl AsFd) -> io::Result<()> {
    #[repr(C)]
    struct Attach {
        target_fd: RawFd,
        attach_bpf_fd: RawFd,
        attach_type: u32,
        attach_flags: u32,
    }
    let attach = Attach {
        target_fd: cgroup.as_fd().as_raw_fd(),
        attach_bpf_fd: program.as_raw_fd(),
        attach_type: PURPOSE.attach_type,
        attach_flags: F_ALLOW_MULTI,
    };
    // SAFETY: there are no pointers in it.
    unsafe { call(PROG_ATTACH, &attach) }.map(drop)
}
