//! A small init, PID 1 of a container that asks for one: it runs the container's program, passes signals on to
//! it, reaps the orphans, and ends as the program does.
//!
//! It is the agent's binary under another name, and nothing of the agent: one thread, no runtime.

mod program;
mod waiting;

use std::ffi::{CStr, OsString};
use std::io;
use std::process::ExitCode;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use self::waiting::Signals;

/// Where the container finds it, as Docker has it.
pub const PATH: &CStr = c"/sbin/docker-init";

/// Exit codes of a shell: for a program that is not there, or cannot be executed.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// Whether this process was started under the init's name.
pub fn is_asked_for() -> bool {
    std::env::args_os().next().is_some_and(|name| name.as_encoded_bytes() == PATH.to_bytes())
}

/// Runs the program that the arguments behind "--" name.
pub fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(2);
    let Some(program) = args.next() else {
        eprintln!("docker-init: no program is named");
        return NOT_FOUND.into();
    };
    match run(&program, args) {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("docker-init: cannot execute {program:?}: {error}");
            if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE }.into()
        }
    }
}

fn run(program: &OsString, args: impl Iterator<Item = OsString>) -> io::Result<u8> {
    let mut signals = Signals::take()?;
    let child = program::command(program, args).spawn()?;
    let child = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
    loop {
        match signals.next()? {
            Signal::CHILD => {
                if let Some(code) = reap(child)? {
                    return Ok(code);
                }
            }
            // It may have ended meanwhile.
            signal => drop(kill_process(child, signal)),
        }
    }
}

/// Collects all that have ended; the exit code of `child` once it has.
fn reap(child: Pid) -> io::Result<Option<u8>> {
    while let Some((pid, status)) = wait(WaitOptions::NOHANG)? {
        let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
        if pid == child
            && let Some(code) = code
        {
            return Ok(Some(u8::try_from(code).unwrap_or(u8::MAX)));
        }
    }
    Ok(None)
}
