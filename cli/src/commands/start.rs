//! Starts containers that do not run, and attaches to those that do.

use std::io;

use containers::{
    Attachment, Container, Containers, ContainersError, Ended, StartError, State, Supervisor,
    SupervisorError, Wiring, exit_code,
};
use sandbox::{Installation, InstallationError, Streams};

use super::each::{Each, each};
use super::supervise::{ProgramError, program};
use crate::args::{AttachArgs, ForegroundArgs, StartArgs};
use crate::data_dir::DataDir;
use crate::foreground::{self, Followed, Foreground, ForegroundError, Hold};
use crate::signals::Signals;
use crate::terminal;

#[derive(Debug, thiserror::Error)]
pub(crate) enum StartingError {
    #[error(transparent)]
    Installation(#[from] InstallationError),
    #[error(transparent)]
    Containers(#[from] ContainersError),
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    #[error(transparent)]
    Foreground(#[from] ForegroundError),
    #[error("only one container at a time can be attached to")]
    AttachOne,
    #[error("container {name} is {}: it cannot be attached to", .state.name())]
    NotAttachable { name: String, state: State },
    #[error("cannot wait for the container's supervisor")]
    Gone(#[source] io::Error),
    #[error("the container failed: {0}")]
    Failed(String),
}

impl StartingError {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Supervisor(SupervisorError::Failed(failure)) => failure.code,
            _ => exit_code::FAILED,
        }
    }
}

/// Without streams attached; several.
pub(crate) async fn start(containers: &Containers, data: &DataDir, args: &StartArgs) -> Each<StartingError> {
    each(&args.containers, async |wanted| start_one(containers, data, wanted).await).await
}

/// One that runs is left alone.
pub(super) async fn start_one(
    containers: &Containers,
    data: &DataDir,
    wanted: &str,
) -> Result<(), StartingError> {
    let container = containers.find(wanted)?;
    Installation::find()?;
    let claimed = match containers.claim(&container) {
        Err(ContainersError::Running(_)) => return Ok(()),
        claimed => claimed?,
    };
    let program = program(data, container.id())?;
    let (started, _) = claimed.start(program, None, false).await?;
    Ok(started.running().await?)
}

/// One container, in the foreground; its exit code.
pub(crate) async fn start_attached(
    containers: &Containers,
    data: &DataDir,
    args: &StartArgs,
    signals: &mut Signals,
) -> Result<u8, StartingError> {
    let [wanted] = args.containers.as_slice() else { return Err(StartingError::AttachOne) };
    let container = containers.find(wanted)?;
    Installation::find()?;
    let wiring = wiring(&container, args.interactive)?;
    let claimed = match containers.claim(&container) {
        Err(ContainersError::Running(_)) => {
            return attached(&container, wiring, &args.foreground, signals).await;
        }
        claimed => claimed?,
    };
    let program = program(data, container.id())?;
    let (started, streams) = claimed.start(program, Some(wiring), false).await?;
    tokio::select! {
        biased;
        signal = signals.terminating() => {
            started.attachment().abort().await?;
            drop(started.running().await);
            started.gone().map_err(StartingError::Gone)?;
            return Ok(foreground::signalled(signal));
        }
        running = started.running() => running?,
    }
    let followed = follow(started.attachment(), streams, wiring, &args.foreground, signals).await?;
    match followed {
        Followed::Ended(ended) => code(ended),
        Followed::Detached => Ok(0),
        Followed::Signalled(signal) => Ok(foreground::signalled(signal)),
    }
}

pub(crate) async fn attach(
    containers: &Containers,
    args: &AttachArgs,
    signals: &mut Signals,
) -> Result<u8, StartingError> {
    let container = containers.find(&args.container)?;
    let wiring = wiring(&container, !args.no_stdin)?;
    attached(&container, wiring, &args.foreground, signals).await
}

async fn attached(
    container: &Container,
    wiring: Wiring,
    args: &ForegroundArgs,
    signals: &mut Signals,
) -> Result<u8, StartingError> {
    if let state @ (State::Paused | State::Restarting) = container.status().state {
        return Err(StartingError::NotAttachable { name: container.name().to_owned(), state });
    }
    let (attachment, streams) = Supervisor::connect(container)?.attach(wiring).await?;
    match follow(&attachment, streams, wiring, args, signals).await? {
        Followed::Ended(ended) => code(ended),
        Followed::Detached => Ok(0),
        Followed::Signalled(signal) => Ok(foreground::signalled(signal)),
    }
}

async fn follow(
    attachment: &Attachment,
    streams: Streams,
    wiring: Wiring,
    args: &ForegroundArgs,
    signals: &mut Signals,
) -> Result<Followed<Ended>, StartingError> {
    let hold = Hold {
        terminal: wiring.terminal.is_some(),
        input: wiring.stdin,
        pass_signals: args.sig_proxy,
        stop_signal: attachment.container().config().stop_signal,
        detach_keys: Some(args.detach_keys.clone()),
    };
    Ok(Foreground::attach(attachment, streams, hold)?.follow(signals).await?)
}

/// The streams the container has.
fn wiring(container: &Container, input: bool) -> Result<Wiring, ForegroundError> {
    let config = container.config();
    let (stdin, tty) = (input && config.stdin.open, config.terminal());
    foreground::check_terminal(stdin, tty)?;
    Ok(Wiring { stdin, stdout: true, stderr: !tty, terminal: tty.then(|| terminal::size().into()) })
}

fn code(ended: Ended) -> Result<u8, StartingError> {
    if ended.error.is_empty() { Ok(ended.code) } else { Err(StartingError::Failed(ended.error)) }
}
