//! Hands descriptors down to a program that knows them by number. The one place here that takes unsafe code.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::fcntl_dupfd_cloexec;

/// The first number after the standard streams'.
const FIRST: RawFd = 3;

/// The program has them, numbered from 3 on. They are open here until the command is dropped.
pub(crate) fn hand_down<const N: usize>(command: &mut Command, descriptors: [OwnedFd; N]) -> io::Result<()> {
    // None of them may have a number that another is about to get.
    let free = FIRST + i32::try_from(N).map_err(io::Error::other)?;
    let aside = descriptors.iter().map(|descriptor| fcntl_dupfd_cloexec(descriptor, free));
    let aside = aside.collect::<Result<Vec<_>, _>>()?;
    drop(descriptors);
    let renumber = move || {
        for (number, descriptor) in (FIRST..).zip(&aside) {
            // SAFETY: it closes at most what the parent has under this number, of which the child runs nothing.
            if unsafe { libc::dup2(descriptor.as_raw_fd(), number) } == -1 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and execution it calls dup2 alone, which is safe there (signal-safety(7)), and allocates nothing.
    unsafe { command.pre_exec(renumber) };
    Ok(())
}
