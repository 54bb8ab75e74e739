//! What takes unsafe code. Between clone3(2) and execve(2), the child has one thread and a copy of this process's memory,
//! in which others' locks stay as they were. It calls nothing but async-signal-safe functions (signal-safety(7)), and none
//! that may panic.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

// linux/sched.h; libc has them as numbers that are too small.
const CLONE_PIDFD: u64 = 0x1000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What the child is to do.
pub(super) struct Execution<'a> {
    pub(super) program: &'a CStr,
    /// To be numbered from 0 on; themselves, they have higher numbers.
    pub(super) handed: &'a [OwnedFd],
    /// Takes the error number of what failed. Closed on execution.
    pub(super) report: &'a OwnedFd,
}

/// Makes a child that does it; gives its pid, and its pidfd.
pub(super) fn clone(cgroup: Option<BorrowedFd<'_>>, execution: &Execution<'_>) -> io::Result<(u32, OwnedFd)> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all-zero is valid: a child with a copy of this process's memory and stack, and no signal at its end.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    // A handler of this process would be run in the child, and take its signal for this process's.
    arguments.flags = CLONE_PIDFD | CLONE_CLEAR_SIGHAND;
    arguments.pidfd = (&raw mut pidfd) as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: as fork(2), it returns twice, in the child on memory of its own; the kernel writes to `pidfd` only.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) } {
        0 => execute(execution),
        pid => match u32::try_from(pid) {
            // SAFETY: it is new, and nothing else knows of it.
            Ok(pid) => Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) })),
            Err(_) => Err(io::Error::last_os_error()),
        },
    }
}

/// A pidfd is readable from its process's end on (pidfd_open(2)).
pub(super) fn watch(process: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is one descriptor, open until it is dropped, which only the AsyncFd does.
    Ok(unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) }?)
}

/// In the child: ends as the program, or without it.
fn execute(execution: &Execution<'_>) -> ! {
    let arguments = [execution.program.as_ptr(), ptr::null()];
    let environment = [ptr::null()];
    let renumber = |(number, descriptor): (RawFd, &OwnedFd)| {
        // SAFETY: nothing of this process goes on to use what had the number.
        unsafe { libc::dup2(descriptor.as_raw_fd(), number) != -1 }
    };
    // SAFETY: the strings end in zero bytes, the arrays in null pointers. Executed, the program replaces all of this.
    unsafe {
        if (0..).zip(execution.handed).all(renumber)
            && libc::setpgid(0, 0) == 0
            && libc::chdir(c"/".as_ptr()) == 0
        {
            libc::execve(execution.program.as_ptr(), arguments.as_ptr(), environment.as_ptr());
        }
        let error = *libc::__errno_location();
        libc::write(execution.report.as_raw_fd(), (&raw const error).cast(), size_of_val(&error));
        libc::_exit(127)
    }
}
