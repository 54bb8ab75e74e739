//! The descriptors the VMM starts with.

use std::io;

use vmm_api::CONTROL_FD;

/// Closes every descriptor beyond standard input, output, error and the control socket. Call it before
/// anything else opens one.
pub fn close_inherited() -> io::Result<()> {
    const FIRST: libc::c_uint = CONTROL_FD as libc::c_uint + 1;
    // SAFETY: nothing in this process owns these descriptors: it has opened none yet.
    match unsafe { libc::close_range(FIRST, libc::c_uint::MAX, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
