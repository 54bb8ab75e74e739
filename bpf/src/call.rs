//! The system call.

use std::io;
use std::mem;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// # Safety
///
/// As for [`call`]; and the command gives a new descriptor.
pub(crate) unsafe fn make<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: as the caller says.
    let descriptor = unsafe { call(command, attributes) }?;
    // SAFETY: it is new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// # Safety
///
/// The attributes are the command's, whole or a beginning without padding, and what they point to is what it reads.
pub(crate) unsafe fn call<T>(command: libc::c_int, attributes: &T) -> io::Result<RawFd> {
    let length = mem::size_of::<T>();
    // SAFETY: the attributes live through the call, and their length is told right; the rest is the caller's to see to.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), length) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(answer).map_err(io::Error::other)
}
