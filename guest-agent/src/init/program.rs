//! The program the init runs, before it is executed.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::waiting;

/// The program with its arguments, in a process group of its own, which it makes the foreground of its terminal
/// should it have one: a Ctrl-C is for it, and is not passed on by the init a second time.
pub(super) fn command(program: &OsString, args: impl Iterator<Item = OsString>) -> Command {
    let mut command = Command::new(program);
    command.args(args).process_group(0);
    // SAFETY: the closure runs between fork and exec of a process with one thread, and makes system calls alone.
    unsafe {
        command.pre_exec(|| {
            waiting::unblock();
            // A process in the background that takes a terminal over is stopped by SIGTTOU unless it ignores it.
            libc::signal(libc::SIGTTOU, libc::SIG_IGN);
            // Fails where stdin is no terminal, or not this session's.
            libc::tcsetpgrp(libc::STDIN_FILENO, libc::getpid());
            libc::signal(libc::SIGTTOU, libc::SIG_DFL);
            Ok(())
        })
    };
    command
}
