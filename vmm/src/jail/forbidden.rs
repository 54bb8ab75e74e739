//! What happens at a system call that a filter forbids: the supervisor learns which, and the process ends.
//!
//! The filters' default action is SECCOMP_RET_TRAP; the kernel then raises SIGSYS in the thread that made
//! the call, and this module's handler runs. It calls nothing but async-signal-safe functions.

use std::cell::Cell;
use std::io::{self, Write};

use vmm_api::{CONTROL_FD, ExitCode};

thread_local! {
    /// What the report calls this thread. Without destructor or allocation, so that a signal handler may
    /// read it.
    static NAME: Cell<&'static str> = const { Cell::new("unconfined") };
}

/// The start of the kernel's siginfo_t for SIGSYS (sigaction(2)); libc does not name these fields.
#[repr(C)]
struct SigsysInfo {
    signal: libc::c_int,
    errno: libc::c_int,
    code: libc::c_int,
    call_address: *mut libc::c_void,
    number: libc::c_int,
    architecture: libc::c_uint,
}

/// si_code of a SIGSYS that comes from a seccomp filter (sigaction(2)).
const SYS_SECCOMP: libc::c_int = 1;

/// Longer than any report.
const MOST: usize = 256;

/// Names the calling thread for a report.
pub(super) fn name_thread(name: &'static str) {
    NAME.set(name);
}

/// From now on, forbidden system calls of any thread are reported on the control socket.
pub(super) fn report() -> io::Result<()> {
    // SAFETY: all-zero is a valid sigaction: an empty mask and no flags.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handle as extern "C" fn(libc::c_int, *mut SigsysInfo, *mut libc::c_void) as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: the handler has the signature SA_SIGINFO asks for and is async-signal-safe.
    match unsafe { libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

extern "C" fn handle(_signal: libc::c_int, info: *mut SigsysInfo, _context: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a siginfo_t, which for SIGSYS starts like this.
    let (code, number) = unsafe { ((*info).code, (*info).number) };
    if code != SYS_SECCOMP {
        return;
    }
    let mut buffer = [0; MOST];
    let length = write_report(&mut buffer, NAME.get(), number);
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: `length` bytes of the buffer are initialised. Should the send fail, the exit code still tells.
    unsafe { libc::send(CONTROL_FD, buffer.as_ptr().cast(), length, flags) };
    // SAFETY: ends the process, with all its threads; nothing runs after it.
    unsafe { libc::_exit(ExitCode::ForbiddenSystemCall as libc::c_int) };
}

/// The JSON of the [`vmm_api::Message`] that ends a VM for this reason; says how long it is.
fn write_report(buffer: &mut [u8; MOST], thread: &str, number: libc::c_int) -> usize {
    let mut rest = buffer.as_mut_slice();
    let _ = write!(
        rest,
        r#"{{"Event":{{"Ended":{{"reason":{{"ForbiddenSystemCall":{{"thread":"{thread}","number":{number}}}}},"console":"","exits":{{}}}}}}}}"#
    );
    MOST - rest.len()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::fd::{AsFd, OwnedFd};

    use vmm_api::{ControlSocket, End, EndReason, Event, Message};

    use super::*;

    #[test]
    fn the_report_is_a_message_of_the_contract() {
        let mut buffer = [0; MOST];
        let length = write_report(&mut buffer, "vcpu", -7);
        let (ours, theirs) = ControlSocket::pair().unwrap();
        let raw: OwnedFd = ours.into();
        rustix::net::send(raw.as_fd(), &buffer[..length], rustix::net::SendFlags::empty()).unwrap();
        let (message, _) = theirs.receive::<Message>().unwrap();
        let reason = EndReason::ForbiddenSystemCall { thread: "vcpu".into(), number: -7 };
        assert_eq!(
            message,
            Message::Event(Event::Ended(End { reason, console: String::new(), exits: BTreeMap::new() }))
        );
    }
}
