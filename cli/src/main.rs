//! `bulkhead`: containers on the command line, each in a virtual machine of its own.
//!
//! [`args`] is what can be said, in Docker's words; [`commands`] does it. A run goes one way: the image's wishes
//! and the user's flags become a [`container`], that becomes an OCI [`spec`], the `sandbox` crate makes it run,
//! and the [`foreground`] ties it to the user's streams, signals and terminal.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use sandbox::{RecordError, StateDir, Timeline};

use crate::args::{Cli, Command};
use crate::data_dir::{DataDir, DataDirError};
use crate::signals::Signals;

mod args;
mod commands;
mod container;
mod data_dir;
mod exit_code;
mod foreground;
mod id;
mod image;
mod report;
mod signals;
mod spec;
mod streams;
mod terminal;
mod timing;

#[derive(Debug, thiserror::Error)]
enum SetUpError {
    #[error("cannot take over signals and streams")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    State(#[from] RecordError),
    #[error(transparent)]
    Data(#[from] DataDirError),
}

fn main() -> ExitCode {
    let timeline = Timeline::default();
    timeline.mark("begin");
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(message) => return explain(&message),
    };
    let code = match cli.command {
        Command::Doctor(_) | Command::Completion(_) | Command::Man => print(&cli.command),
        command => with_sandboxes(command, &timeline),
    };
    ExitCode::from(code)
}

/// Help and version were asked for; anything else is a command line that cannot be.
fn explain(message: &clap::Error) -> ExitCode {
    // Nobody is left to tell when printing fails.
    let _ = message.print();
    match message.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(exit_code::FAILED),
    }
}

/// The commands that touch no sandbox.
fn print(command: &Command) -> u8 {
    let mut out = io::stdout();
    let printed = match command {
        Command::Doctor(args) => commands::doctor::doctor(args, &mut out),
        Command::Completion(args) => commands::completion::completion(args, &mut out).map(|()| true),
        _ => commands::man::man(&mut out).map(|()| true),
    };
    match printed.and_then(|good| out.flush().map(|()| good)) {
        Ok(good) => u8::from(!good),
        // `bulkhead man | head`: who closes our output has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(error) => failed(&error),
    }
}

fn with_sandboxes(command: Command, timeline: &Timeline) -> u8 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&SetUpError::Runtime(error)),
    };
    let code = runtime.block_on(dispatch(command, timeline)).unwrap_or_else(|error| failed(&error));
    // What still blocks (an import nobody waits for, output nobody reads) ends with the process.
    runtime.shutdown_background();
    code
}

/// First thing, any command cleans up what a crash left.
async fn dispatch(command: Command, timeline: &Timeline) -> Result<u8, SetUpError> {
    // Before anything is made that a signal's default action would leave behind.
    let mut signals = Signals::take().map_err(SetUpError::Runtime)?;
    let state = StateDir::open()?;
    state.sweep()?;
    Ok(match command {
        Command::Run(args) => {
            let data = DataDir::open()?;
            let code = commands::run::run(&state, &data, &args, &mut signals, timeline).await;
            code.unwrap_or_else(|error| failed_with(error.exit_code(), &error))
        }
        Command::Exec(args) => {
            let code = commands::exec::exec(&state, &args, &mut signals).await;
            code.unwrap_or_else(|error| failed_with(error.exit_code(), &error))
        }
        Command::Kill(args) => {
            let errors = commands::kill::kill(&state, &args).await;
            errors.iter().for_each(|error| report::error(error));
            if errors.is_empty() { 0 } else { exit_code::FAILED }
        }
        Command::Ps(args) => match commands::ps::ps(&state, &args, &mut io::stdout()) {
            Ok(()) => 0,
            Err(error) => failed(&error),
        },
        Command::Doctor(_) | Command::Completion(_) | Command::Man => 0,
    })
}

fn failed(error: &dyn std::error::Error) -> u8 {
    failed_with(exit_code::FAILED, error)
}

fn failed_with(code: u8, error: &dyn std::error::Error) -> u8 {
    report::error(error);
    code
}
