//! What takes unsafe code. Between clone3(2), or clone(2), and execve(2), the child has one thread and a copy of this
//! process's memory, in which others' locks stay as they were. It calls nothing but async-signal-safe functions
//! (signal-safety(7)), and none that may panic.

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
    match clone3(cgroup, execution) {
        // So answer profiles that cannot look into clone3's arguments, Docker's for one.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            let blocked = BlockedSignals::new()?;
            clone_and_move(cgroup, execution, &blocked)
        }
        cloned => cloned,
    }
}

fn clone3(cgroup: Option<BorrowedFd<'_>>, execution: &Execution<'_>) -> io::Result<(u32, OwnedFd)> {
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
        pid => parents_side(pid, pidfd),
    }
}

/// By clone(2), whose child moves to the cgroup. Signals are blocked, so that no handler of this process runs in it.
fn clone_and_move(
    cgroup: Option<BorrowedFd<'_>>,
    execution: &Execution<'_>,
    blocked: &BlockedSignals,
) -> io::Result<(u32, OwnedFd)> {
    let mut pidfd: RawFd = -1;
    let flags = CLONE_PIDFD | libc::SIGCHLD as u64;
    // SAFETY: as above. The child's stack is the copy of this one where no other is named.
    match unsafe {
        libc::syscall(libc::SYS_clone, flags, ptr::null::<u8>(), &raw mut pidfd, ptr::null::<u8>(), 0)
    } {
        0 => {
            if let Some(cgroup) = cgroup
                && !move_to(cgroup)
            {
                give_up(execution);
            }
            forget_handlers(&blocked.before);
            execute(execution)
        }
        pid => parents_side(pid, pidfd),
    }
}

fn parents_side(pid: libc::c_long, pidfd: RawFd) -> io::Result<(u32, OwnedFd)> {
    match u32::try_from(pid) {
        // SAFETY: it is new, and nothing else knows of it.
        Ok(pid) => Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) })),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// This thread takes no signal while this lives.
struct BlockedSignals {
    before: libc::sigset_t,
}

impl BlockedSignals {
    fn new() -> io::Result<Self> {
        // SAFETY: all-zero is a valid set, which the calls overwrite.
        let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = unsafe { std::mem::zeroed() };
        // SAFETY: both sets are this function's.
        match unsafe {
            libc::sigfillset(&raw mut all)
                | libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before)
        } {
            0 => Ok(Self { before }),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: the set is this value's. It was this thread's, so it cannot be refused.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut()) };
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
    }
    give_up(execution)
}

/// In the child: ends, telling the number of the error just met.
fn give_up(execution: &Execution<'_>) -> ! {
    // SAFETY: the error number is this thread's; it is written from memory of its length.
    unsafe {
        let error = *libc::__errno_location();
        libc::write(execution.report.as_raw_fd(), (&raw const error).cast(), size_of_val(&error));
        libc::_exit(127)
    }
}

/// In the child: moves to a cgroup (Linux Documentation/admin-guide/cgroup-v2.rst, "Processes"); tells whether it could.
fn move_to(cgroup: BorrowedFd<'_>) -> bool {
    const SELF: &[u8] = b"0";
    // SAFETY: the name is a C string, the bytes are as many as is said; the descriptor goes at the execution.
    unsafe {
        let procs =
            libc::openat(cgroup.as_raw_fd(), c"cgroup.procs".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        procs != -1 && libc::write(procs, SELF.as_ptr().cast(), SELF.len()) == 1
    }
}

/// In the child: has signals do what they do by default, but for those that are ignored, and lets them in.
fn forget_handlers(mask: &libc::sigset_t) {
    // SAFETY: all-zero is SIG_DFL; the calls read and write what is this function's, and a set that outlives it.
    unsafe {
        let default: libc::sigaction = std::mem::zeroed();
        for signal in 1..=libc::SIGRTMAX() {
            let mut now: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(signal, ptr::null(), &raw mut now) == 0 && now.sa_sigaction != libc::SIG_IGN {
                libc::sigaction(signal, &raw const default, ptr::null_mut());
            }
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, mask, ptr::null_mut());
    }
}
