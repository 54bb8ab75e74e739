//! Signals, waited for rather than handled.

use std::io;
use std::mem::MaybeUninit;

use rustix::process::Signal;

/// What tells of a fault of this process itself, or comes from a terminal to those in its background.
const LEFT_ALONE: [i32; 9] = [
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGABRT,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// All signals sent to this process, from now on.
pub(super) struct Signals {
    set: libc::sigset_t,
}

impl Signals {
    /// Blocks them. A program started later inherits that, and has to [`unblock`] them.
    pub(super) fn take() -> io::Result<Self> {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigfillset initializes the set it is given.
        let mut set: libc::sigset_t = unsafe {
            libc::sigfillset(set.as_mut_ptr());
            set.assume_init()
        };
        for signal in LEFT_ALONE {
            // SAFETY: the set is initialized, and these are signals.
            unsafe { libc::sigdelset(&mut set, signal) };
        }
        // SAFETY: the set is initialized; no old set is asked for.
        match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) } {
            0 => Ok(Self { set }),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Waits for the next.
    pub(super) fn next(&mut self) -> io::Result<Signal> {
        loop {
            let mut number = 0;
            // SAFETY: the set is initialized, and `number` takes the signal.
            let error = unsafe { libc::sigwait(&self.set, &mut number) };
            match (error, crate::signals::from_number(number.unsigned_abs())) {
                (0, Some(signal)) => return Ok(signal),
                (0 | libc::EINTR, _) => {}
                (error, _) => return Err(io::Error::from_raw_os_error(error)),
            }
        }
    }
}

/// Blocks nothing any more. Makes system calls alone, so that it may stand between fork and exec.
pub(super) fn unblock() {
    let mut none = MaybeUninit::uninit();
    // SAFETY: sigemptyset initializes the set, which sigprocmask reads; no old set is asked for.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
}
