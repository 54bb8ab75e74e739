//! Bytes between guest memory and a socket without a copy in between.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use vm_memory::VolatileSlice;

use crate::virtio::chain::Run;

/// The kernel takes this many pieces at once (IOV_MAX). A driver that cuts its buffers finer has less of
/// them moved at a time.
const MOST_PIECES: usize = 1024;

/// Sends; says how many bytes the socket took.
pub(super) fn send(socket: BorrowedFd<'_>, from: &Run<'_>) -> io::Result<usize> {
    transfer(from.slices(), |message| {
        // SAFETY: the message's pieces lie in guest memory, mapped while `from` is borrowed; the kernel reads
        // them, and that the guest may change them meanwhile concerns no more than what is sent.
        unsafe { libc::sendmsg(socket.as_raw_fd(), message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) }
    })
}

/// Receives into the first bytes of `into`; says how many. 0 is the end of the stream.
pub(super) fn receive(socket: BorrowedFd<'_>, into: &Run<'_>) -> io::Result<usize> {
    transfer(into.slices(), |message| {
        // SAFETY: the message's pieces lie in guest memory, mapped while `into` is borrowed, to which there
        // is no Rust reference; the kernel stays within them.
        unsafe { libc::recvmsg(socket.as_raw_fd(), message, libc::MSG_DONTWAIT) }
    })
}

fn transfer(slices: &[VolatileSlice<'_>], call: impl Fn(&mut libc::msghdr) -> isize) -> io::Result<usize> {
    let guards: Vec<_> = slices.iter().take(MOST_PIECES).map(|slice| slice.ptr_guard_mut()).collect();
    let mut pieces: Vec<_> = guards
        .iter()
        .map(|guard| libc::iovec { iov_base: guard.as_ptr().cast(), iov_len: guard.len() })
        .collect();
    // SAFETY: all-zero is a valid msghdr: no name, no control data, no pieces.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = pieces.as_mut_ptr();
    message.msg_iovlen = pieces.len();
    usize::try_from(call(&mut message)).map_err(|_| io::Error::last_os_error())
}
