//! `bulkhead-oci`: runc's command line over virtual machines, for whoever runs containers through it: Podman, Buildah, CRI-O.
//!
//! [`args`] is what can be said, in runc's words; [`commands`] does it. A container is kept by a process of this program, its
//! [supervisor](supervise): `create` starts one, which inherits the container's streams, launches the virtual machine and
//! exits as the container's process does. Its pid is the container's, as far as the caller is concerned. The other commands
//! find it by the container's [`state`], and ask it over a socket ([`protocol`]).

#![deny(unsafe_code)]

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::args::{Cli, Command};
use crate::log::Log;

mod args;
mod blob;
mod cgroup;
mod client;
mod commands;
mod copy;
mod foreground;
mod hire;
mod inherited;
mod log;
mod make;
mod pid_file;
mod protocol;
mod runtime;
mod signals;
mod state;
mod stats;
mod supervise;
mod table;
mod teardown;
mod terminal;

/// What failures end with.
const FAILED: u8 = 1;
const EXEC_FAILED: u8 = 255;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    // Not for people; what it has to do comes over the inherited socket.
    if let [_, verb, _, socket] = arguments.as_slice()
        && verb == supervise::VERB
    {
        return ExitCode::from(supervise::supervise(socket));
    }
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(message) => return explain(&message),
    };
    let log = Log::new(cli.global.log.clone(), cli.global.log_format);
    match commands::run(&cli.command, &cli.global, &log) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let (message, code) = in_runcs_words(&cli.command, error.as_ref());
            log.error(&message);
            eprintln!("{message}");
            ExitCode::from(code)
        }
    }
}

/// A process that could not be executed has a code that no command of its own has.
fn in_runcs_words(command: &Command, error: &dyn Error) -> (String, u8) {
    let message = shim::describe(error);
    match command {
        Command::Exec(_) => (format!("exec failed: {message}"), EXEC_FAILED),
        _ => (message, FAILED),
    }
}

/// Help and version were asked for; anything else is a command line that cannot be.
fn explain(message: &clap::Error) -> ExitCode {
    // Nobody is left to tell when printing fails.
    let _ = message.print();
    match message.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(FAILED),
    }
}
