//! Runs a further command in a running sandbox.

use std::io;

use containers::{Container, Containers, ContainersError, State, exit_code, id};
use sandbox::{AttachError, Attached, CreateError, ExecConfig, Process, Record, RecordError};

use crate::args::{ExecArgs, Signal};
use crate::container::{Command, ContainerError};
use crate::foreground::{self, Followed, Foreground, ForegroundError, Hold};
use crate::signals::Signals;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecError {
    #[error(transparent)]
    Foreground(#[from] ForegroundError),
    #[error(transparent)]
    Container(#[from] ContainerError),
    #[error("cannot get random bytes for an id")]
    Id(#[source] io::Error),
    #[error(transparent)]
    Containers(#[from] ContainersError),
    #[error("container {0} is not running")]
    NotRunning(String),
    #[error("container {0} is paused: unpause it first")]
    Paused(String),
    #[error(transparent)]
    Attach(#[from] AttachError),
    #[error(transparent)]
    Create(#[from] CreateError),
}

impl ExecError {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Create(error) => exit_code::of_create_error(error),
            _ => exit_code::FAILED,
        }
    }
}

/// The command's exit code.
pub(crate) async fn exec(
    containers: &Containers,
    args: &ExecArgs,
    signals: &mut Signals,
) -> Result<u8, ExecError> {
    let stdio = foreground::stdio(&args.stdio)?;
    let beginning = begin(containers, args, stdio);
    let (_attached, foreground) = tokio::select! {
        biased;
        signal = signals.terminating() => return Ok(foreground::signalled(signal)),
        begun = beginning => begun?,
    };
    match foreground.follow(signals).await? {
        Followed::Ended(exit) => Ok(exit.code),
        Followed::Detached => Ok(0),
        Followed::Signalled(signal) => Ok(foreground::signalled(signal)),
    }
}

async fn begin(
    containers: &Containers,
    args: &ExecArgs,
    stdio: sandbox::Stdio,
) -> Result<(Attached, Foreground<Process>), ExecError> {
    let container = containers.find(args.container())?;
    let attached = open(containers, &container).await?;
    let record = attached.record();
    let command = Command::further(&of(record), &args.process, args.command(), args.stdio.tty)?;
    let mut process = record.process.clone();
    process.set_args(Some(command.args));
    process.set_env(Some(command.environment));
    process.set_cwd(command.directory);
    process.set_terminal(Some(command.terminal));
    let config = ExecConfig {
        container_id: record.id.clone(),
        exec_id: id::random().map_err(ExecError::Id)?,
        process,
        stdio,
        user: command.user,
    };
    let (process, streams) = attached.guest().exec(config).await?;
    let foreground = Foreground::attach(process, streams, hold(args))?;
    Ok((attached, foreground))
}

/// The sandbox of a running container.
async fn open(containers: &Containers, container: &Container) -> Result<Attached, ExecError> {
    let name = || container.name().to_owned();
    match container.status().state {
        State::Paused => return Err(ExecError::Paused(name())),
        state if !state.is_running() => return Err(ExecError::NotRunning(name())),
        _ => {}
    }
    match Attached::open(containers.state(), container.id()).await {
        Err(AttachError::Record(RecordError::NotFound(_))) => Err(ExecError::NotRunning(name())),
        attached => Ok(attached?),
    }
}

fn hold(args: &ExecArgs) -> Hold {
    Hold {
        terminal: args.stdio.tty,
        input: args.stdio.interactive,
        pass_signals: true,
        stop_signal: Signal::TERM.number(),
        detach_keys: None,
    }
}

/// The container's own command.
fn of(record: &Record) -> Command {
    Command {
        args: record.command.clone(),
        environment: record.process.env().clone().unwrap_or_default(),
        directory: record.process.cwd().clone(),
        user: record.user.clone(),
        terminal: record.process.terminal().unwrap_or(false),
    }
}
