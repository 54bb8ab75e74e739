//! Descriptors that pass from one program to the next.

#![allow(unsafe_code, reason = "an inherited descriptor is a number, and close_range(2) has no safe wrapper")]

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::{FdFlags, fcntl_setfd};

/// The first descriptor that is no standard stream.
const FIRST: RawFd = 3;

/// Has every descriptor but the standard streams closed in programs this process executes: what a caller forgot is not for
/// a supervisor to keep open.
pub(crate) fn keep_to_ourselves() {
    // SAFETY: it closes nothing here, and only sets flags, of descriptors that are open. A kernel before 5.11
    // refuses; then what others forgot to protect is inherited, as ever.
    unsafe {
        libc::close_range(FIRST.cast_unsigned(), libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int)
    };
}

/// Has a descriptor stay open, under its number, in the next program this process executes.
pub(crate) fn bequeath(descriptor: impl AsFd) -> io::Result<String> {
    fcntl_setfd(&descriptor, FdFlags::empty())?;
    Ok(descriptor.as_fd().as_raw_fd().to_string())
}

/// Takes a descriptor that was [bequeathed](bequeath), by what the parent calls it. To be called once, before this process
/// opens anything.
pub(crate) fn inherit(number: &OsStr) -> io::Result<OwnedFd> {
    let number = number.to_str().and_then(|number| number.parse().ok()).filter(|number| *number >= FIRST);
    let number: RawFd = number.ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: F_GETFD touches no memory; it fails where nothing is open under this number.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and nobody in this process has it yet: it was inherited.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl_setfd(&descriptor, FdFlags::CLOEXEC)?;
    Ok(descriptor)
}
