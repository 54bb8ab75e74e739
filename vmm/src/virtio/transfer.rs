//! Bytes between guest memory and a socket without a copy in between.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use vm_memory::VolatileSlice;

use crate::virtio::chain::Run;

/// The kernel takes this many pieces at once (IOV_MAX). A driver that cuts its buffers finer has less of
/// them moved at a time.
pub(super) const MOST_PIECES: usize = 1024;

/// Sends what is before, then the run; says how many bytes the socket took.
pub(super) fn send(socket: BorrowedFd<'_>, before: &[u8], from: &Run<'_>) -> io::Result<usize> {
    transfer(before, from.slices(), |message| {
        // SAFETY: the message's pieces lie in guest memory, mapped while `from` is borrowed, or are `before`; the
        // kernel reads them, and that the guest may change its own meanwhile concerns no more than what is sent.
        unsafe { libc::sendmsg(socket.as_raw_fd(), message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) }
    })
}

/// Receives into the first bytes of `into`; says how many. 0 is the end of the stream.
pub(super) fn receive(socket: BorrowedFd<'_>, into: &Run<'_>) -> io::Result<usize> {
    transfer(&[], into.slices(), |message| {
        // SAFETY: the message's pieces lie in guest memory, mapped while `into` is borrowed, to which there
        // is no Rust reference; the kernel stays within them. The piece before them is empty.
        unsafe { libc::recvmsg(socket.as_raw_fd(), message, libc::MSG_DONTWAIT) }
    })
}

fn transfer(
    before: &[u8],
    slices: &[VolatileSlice<'_>],
    call: impl Fn(&mut libc::msghdr) -> isize,
) -> io::Result<usize> {
    let head = (!before.is_empty())
        .then(|| libc::iovec { iov_base: before.as_ptr().cast_mut().cast(), iov_len: before.len() });
    let guards: Vec<_> = slices.iter().take(MOST_PIECES).map(|slice| slice.ptr_guard_mut()).collect();
    let mut pieces: Vec<_> = head
        .into_iter()
        .chain(
            guards.iter().map(|guard| libc::iovec { iov_base: guard.as_ptr().cast(), iov_len: guard.len() }),
        )
        .take(MOST_PIECES)
        .collect();
    // SAFETY: all-zero is a valid msghdr: no name, no control data, no pieces.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = pieces.as_mut_ptr();
    message.msg_iovlen = pieces.len();
    usize::try_from(call(&mut message)).map_err(|_| io::Error::last_os_error())
}
