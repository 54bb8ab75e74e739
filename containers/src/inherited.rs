//! Descriptors a command was started with and knows nothing of: a supervisor outlives the command, and must not
//! keep others' files, pipes and locks open.

#![allow(unsafe_code, reason = "close_range(2) has no safe wrapper")]

/// The first descriptor that is no standard stream.
const FIRST: libc::c_uint = 3;

/// Has every descriptor but the standard streams closed in programs this process executes.
pub(crate) fn keep_to_ourselves() {
    // SAFETY: it closes nothing here, and only sets flags, of descriptors that are open. A kernel before 5.11
    // refuses; then what others forgot to protect is inherited, as ever.
    unsafe { libc::close_range(FIRST, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int) };
}
