//! Copies from one descriptor to another, of whatever kind they are.

use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, read, write};

/// Large, for few system calls a megabyte.
const BUFFER: usize = 256 * 1024;

/// Until one of them ends. Blocks.
pub(crate) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = patiently(from, PollFlags::IN, || read(from, &mut buffer[..]))?;
        match buffer.get(..length) {
            Some(bytes @ [_, ..]) => write_all(to, bytes)?,
            _ => return Ok(()),
        }
    }
}

fn write_all(to: BorrowedFd<'_>, mut rest: &[u8]) -> Result<(), Errno> {
    while !rest.is_empty() {
        let written = patiently(to, PollFlags::OUT, || write(to, rest))?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(())
}

/// Repeats a call while it is interrupted or, as others may have made the caller's ends non-blocking, would block.
fn patiently<T>(
    descriptor: BorrowedFd<'_>,
    ready: PollFlags,
    mut call: impl FnMut() -> Result<T, Errno>,
) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => match poll(&mut [PollFd::from_borrowed_fd(descriptor, ready)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            },
            done => return done,
        }
    }
}
