//! `bulkhead`: containers on the command line, each in a virtual machine of its own.
//!
//! [`args`] is what can be said, in Docker's words; [`commands`] does it. A run goes one way: the image's wishes
//! and the user's flags become a [`container`], that becomes an OCI [`spec`], the `containers` crate keeps it and
//! makes it run, and the [`foreground`] ties it to the user's streams, signals and terminal.

#![forbid(unsafe_code)]

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches};
use containers::{Containers, ContainersError, exit_code};
use sandbox::{RecordError, StateDir, Timeline};

use crate::args::{Cli, Command, RunArgs, grouped};
use crate::data_dir::{DataDir, DataDirError};
use crate::signals::Signals;

mod args;
mod commands;
mod container;
mod copy;
mod data_dir;
mod foreground;
mod human;
mod image;
mod image_verbs;
mod in_use;
mod inside_verbs;
mod inspection;
mod key_sequence;
mod labels;
mod listing;
mod output_file;
mod progress;
mod pump;
mod report;
mod signals;
mod snapshot_archive;
mod spec;
mod streams;
mod template;
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
    #[error(transparent)]
    Containers(#[from] ContainersError),
    #[error(transparent)]
    Inside(#[from] inside_verbs::SetUpError),
}

fn main() -> ExitCode {
    let timeline = Timeline::default();
    // Not for people, and begun with every container: it does without the command line, which takes milliseconds.
    if std::env::args_os().nth(1).is_some_and(|verb| verb == commands::supervise::VERB) {
        timeline.mark("supervisor started");
        return ExitCode::from(in_runtime(supervise(&timeline)));
    }
    let command = match run_alone().map_or_else(whole_command_line, Ok) {
        Ok(command) => command,
        Err(message) => return explain(&message),
    };
    timeline.mark("begin");
    let code = match command.short() {
        command @ (Command::Doctor(_) | Command::Completion(_) | Command::Man) => print(&command),
        Command::Image(verb) => image_verbs::run(&verb),
        command => in_runtime(dispatch(command, &timeline)),
    };
    ExitCode::from(code)
}

/// A `run` that has nothing wrong with it, and asks for no help: to build all other verbs as well takes milliseconds, and
/// every start would wait for them.
fn run_alone() -> Option<Command> {
    const VERB: &str = "run";
    if std::env::args_os().nth(1)? != VERB {
        return None;
    }
    let run = RunArgs::augment_args(clap::Command::new(VERB));
    let matches = clap::Command::new("bulkhead").subcommand(run).try_get_matches().ok()?;
    let args = RunArgs::from_arg_matches(matches.subcommand_matches(VERB)?).ok()?;
    Some(Command::Run(Box::new(args)))
}

fn whole_command_line() -> Result<Command, clap::Error> {
    let matches = grouped(Cli::command()).try_get_matches()?;
    Ok(Cli::from_arg_matches(&matches)?.command)
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

/// The commands that touch no container.
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

fn in_runtime(doing: impl Future<Output = Result<u8, SetUpError>>) -> u8 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&SetUpError::Runtime(error)),
    };
    let code = runtime.block_on(doing).unwrap_or_else(|error| failed(&error));
    // What still blocks (an import nobody waits for, output nobody reads) ends with the process.
    runtime.shutdown_background();
    code
}

async fn dispatch(command: Command, timeline: &Timeline) -> Result<u8, SetUpError> {
    // Before anything is made that a signal's default action would leave behind.
    let mut signals = Signals::take().map_err(SetUpError::Runtime)?;
    let (data, state) = (DataDir::open()?, StateDir::open()?);
    // First thing, any command cleans up what a crash left.
    state.sweep()?;
    let containers = Containers::open(data.containers(), state)?;
    let (containers, data, signals) = (&containers, &data, &mut signals);
    Ok(match command {
        Command::Run(args) => match commands::run::run(containers, data, &args, signals, timeline).await {
            Ok(code) => code,
            Err(error) => failed_with(error.exit_code(), &error),
        },
        Command::Create(args) => match commands::create::create(containers, data, &args).await {
            Ok(id) => print_line(&id),
            Err(error) => failed(&error),
        },
        Command::Start(args) if args.attach || args.interactive => {
            let code = commands::start::start_attached(containers, data, &args, signals).await;
            code.unwrap_or_else(|error| failed_with(error.exit_code(), &error))
        }
        Command::Start(args) => all_done(&commands::start::start(containers, data, &args).await),
        Command::Attach(args) => match commands::start::attach(containers, &args, signals).await {
            Ok(code) => code,
            Err(error) => failed_with(error.exit_code(), &error),
        },
        Command::Exec(args) => match commands::exec::exec(containers, &args, signals).await {
            Ok(code) => code,
            Err(error) => failed_with(error.exit_code(), &error),
        },
        Command::Inside(verb) => inside_verbs::run(&verb, containers, data, signals, timeline).await?,
        other => manage(other, containers, data, signals).await,
    })
}

/// The commands that no signal is passed on by, and so end with one.
async fn manage(command: Command, containers: &Containers, data: &DataDir, signals: &mut Signals) -> u8 {
    let managing = async {
        match command {
            Command::Ps(args) => done(commands::ps::ps(containers, &args, &mut io::stdout())),
            Command::Logs(args) => done(commands::logs::logs(containers, &args).await),
            Command::Wait(args) => done(commands::wait::wait(containers, &args, &mut io::stdout()).await),
            Command::Stop(args) => all_done(&commands::stop::stop(containers, &args).await),
            Command::Restart(args) => all_done(&commands::restart::restart(containers, data, &args).await),
            Command::Kill(args) => all_done(&commands::kill::kill(containers, &args).await),
            Command::Rename(args) => done(commands::rename::rename(containers, &args)),
            Command::Port(args) => done(commands::port::port(containers, &args)),
            Command::Events(args) => done(commands::events::events(containers, &args).await),
            Command::Rm(args) => all_done(&commands::rm::rm(containers, &args).await),
            Command::Fork(args) => match commands::fork::fork(containers, data, &args).await {
                Ok(errors) => all_done(&errors),
                Err(error) => done(Err(error)),
            },
            Command::Snapshot(args) => {
                let (snapshots, mut out) = (data.snapshots(), io::stdout());
                match commands::snapshot::snapshot(containers, &snapshots, &args.verb, &mut out).await {
                    Ok(errors) => all_done(&errors),
                    Err(error) => done(Err(error)),
                }
            }
            Command::Template(args) => {
                let (state, mut out) = (containers.state(), io::stdout());
                match commands::machine_template::machine_template(state, &args.verb, &mut out).await {
                    Ok(errors) => all_done(&errors),
                    Err(error) => done(Err(error)),
                }
            }
            _ => 0,
        }
    };
    tokio::select! {
        biased;
        signal = signals.terminating() => foreground::signalled(signal),
        code = managing => code,
    }
}

/// Nobody reads what a supervisor prints: what it cannot do shows in the container's status.
async fn supervise(timeline: &Timeline) -> Result<u8, SetUpError> {
    let data = DataDir::open()?;
    let containers = Containers::open(data.containers(), StateDir::open()?)?;
    let supervised = commands::supervise::supervise(&containers, &data, timeline).await;
    Ok(supervised.map_or(exit_code::FAILED, |()| 0))
}

fn done<E: Error + 'static>(result: Result<(), E>) -> u8 {
    match result {
        Ok(()) => 0,
        Err(error) if is_broken_pipe(&error) => 0,
        Err(error) => failed(&error),
    }
}

/// `bulkhead logs | head`: who closes our output has read enough.
fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let io = cause.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn all_done<E: Error>(errors: &[E]) -> u8 {
    errors.iter().for_each(|error| report::error(error));
    if errors.is_empty() { 0 } else { exit_code::FAILED }
}

fn print_line(line: &str) -> u8 {
    done(writeln!(io::stdout(), "{line}"))
}

fn failed(error: &dyn Error) -> u8 {
    failed_with(exit_code::FAILED, error)
}

fn failed_with(code: u8, error: &dyn Error) -> u8 {
    report::error(error);
    code
}
