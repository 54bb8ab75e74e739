//! Runs a further command in a running sandbox.

use std::io;

use sandbox::{AttachError, Attached, CreateError, ExecConfig, Record, StateDir};

use crate::args::{ExecArgs, Signal};
use crate::container::{Command, ContainerError};
use crate::exit_code;
use crate::foreground::{self, Foreground, ForegroundError};
use crate::id;
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
pub(crate) async fn exec(state: &StateDir, args: &ExecArgs, signals: &mut Signals) -> Result<u8, ExecError> {
    let stdio = foreground::stdio(&args.stdio)?;
    let beginning = begin(state, args, stdio);
    let (_attached, foreground) = tokio::select! {
        biased;
        signal = signals.terminating() => return Ok(foreground::signalled(signal)),
        begun = beginning => begun?,
    };
    Ok(foreground.follow(signals).await?.code)
}

async fn begin(
    state: &StateDir,
    args: &ExecArgs,
    stdio: sandbox::Stdio,
) -> Result<(Attached, Foreground), ExecError> {
    let attached = Attached::open(state, args.sandbox()).await?;
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
    let foreground = Foreground::attach(process, streams, &args.stdio, Signal::TERM)?;
    Ok((attached, foreground))
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
