//! Runs a command in a new container.

use std::io;

use containers::{
    Claimed, Containers, ContainersError, Ended, SnapshotsError, StartError, Started, SupervisorError,
    Wiring, exit_code,
};
use sandbox::{Installation, InstallationError, Timeline};

use super::create::{self, CreateError, FirstRun};
use super::supervise::{ProgramError, program};
use crate::args::{ContainerArgs, RunArgs, StdioArgs, StreamName};
use crate::data_dir::DataDir;
use crate::foreground::{self, Followed, Foreground, ForegroundError, Hold};
use crate::signals::Signals;
use crate::terminal;
use crate::timing::Timing;

#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Foreground(#[from] ForegroundError),
    #[error(transparent)]
    Installation(#[from] InstallationError),
    #[error(transparent)]
    Create(#[from] CreateError),
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    #[error(transparent)]
    Containers(#[from] ContainersError),
    #[error(transparent)]
    Snapshots(#[from] SnapshotsError),
    #[error("cannot wait for the container's supervisor")]
    Gone(#[source] io::Error),
    #[error("the container failed: {0}")]
    Failed(String),
}

impl RunError {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Supervisor(SupervisorError::Failed(failure)) => failure.code,
            _ => exit_code::FAILED,
        }
    }
}

/// The command's exit code; 0 for one that goes on without us.
pub(crate) async fn run(
    containers: &Containers,
    data: &DataDir,
    args: &RunArgs,
    signals: &mut Signals,
    timeline: &Timeline,
) -> Result<u8, RunError> {
    let wiring = wiring(data, args)?;
    // Told before anything is made.
    Installation::find()?;
    let first = FirstRun { stdin_once: wiring.is_some_and(|wiring| wiring.stdin), at_once: true };
    let making = create::make(containers, data, &args.container, first);
    let claimed = tokio::select! {
        biased;
        signal = signals.terminating() => return Ok(foreground::signalled(signal)),
        made = making => made?,
    };
    timeline.mark("container made");
    let id = claimed.container().id().to_owned();
    let hold = hold(args, &claimed);
    let timed = args.timing.is_some() && wiring.is_some();
    let (started, streams) = start(containers, data, claimed, wiring, timed).await?;
    tokio::select! {
        biased;
        signal = signals.terminating() => {
            started.attachment().abort().await?;
            // It says how the start came to nothing, or what it ended with: that we know better.
            drop(started.running().await);
            started.gone().map_err(RunError::Gone)?;
            return Ok(foreground::signalled(signal));
        }
        running = started.running() => if let Err(error) = running {
            started.gone().map_err(RunError::Gone)?;
            return Err(error.into());
        },
    }
    if wiring.is_none() {
        println!("{id}");
        return Ok(0);
    }
    let foreground = Foreground::attach(started.attachment(), streams, hold)?;
    match foreground.follow(signals).await? {
        Followed::Detached => Ok(0),
        Followed::Signalled(signal) => Ok(foreground::signalled(signal)),
        Followed::Ended(ended) => report(args, ended, timeline),
    }
}

/// Starts a container just made; one that cannot be is removed if it is to be anyway.
async fn start(
    containers: &Containers,
    data: &DataDir,
    claimed: Claimed,
    wiring: Option<Wiring>,
    timed: bool,
) -> Result<(Started, sandbox::Streams), RunError> {
    let program = match program(data, claimed.container().id()) {
        Ok(program) => program,
        Err(error) => {
            if claimed.container().config().auto_remove {
                containers.remove(claimed)?;
            }
            return Err(error.into());
        }
    };
    Ok(claimed.start(program, wiring, timed).await?)
}

fn report(args: &RunArgs, ended: Ended, timeline: &Timeline) -> Result<u8, RunError> {
    if let Some(format) = args.timing {
        ended.stamps.into_iter().for_each(|stamp| timeline.add(stamp));
        timeline.mark("container gone");
        eprint!("{}", Timing::new(&timeline.stamps(), ended.kvm_exits).render(format));
    }
    if ended.out_of_memory {
        report_out_of_memory(&args.container);
    }
    if ended.error.is_empty() { Ok(ended.code) } else { Err(RunError::Failed(ended.error)) }
}

/// The streams to attach; `None` for a container in the background.
fn wiring(data: &DataDir, args: &RunArgs) -> Result<Option<Wiring>, RunError> {
    if args.detach {
        return Ok(None);
    }
    let attach = &args.container.attach;
    let stdio = match &args.container.from {
        Some(name) => {
            let config = data.snapshots().find_usable(name)?.about.container;
            StdioArgs { interactive: config.stdin.open, tty: config.terminal() }
        }
        None => args.container.stdio,
    };
    let wanted = |stream, unless_told| if attach.is_empty() { unless_told } else { attach.contains(&stream) };
    let stdin = wanted(StreamName::Stdin, stdio.interactive) && stdio.interactive;
    foreground::check_terminal(stdin, stdio.tty)?;
    Ok(Some(Wiring {
        stdin,
        stdout: wanted(StreamName::Stdout, true),
        stderr: wanted(StreamName::Stderr, true) && !stdio.tty,
        terminal: stdio.tty.then(|| terminal::size().into()),
    }))
}

fn hold(args: &RunArgs, claimed: &Claimed) -> Hold {
    let config = claimed.container().config();
    Hold {
        terminal: config.terminal(),
        input: config.stdin.open && !args.detach,
        pass_signals: args.foreground.sig_proxy,
        stop_signal: config.stop_signal,
        detach_keys: Some(args.foreground.detach_keys.clone()),
    }
}

fn report_out_of_memory(args: &ContainerArgs) {
    let limit = args.limits.memory.map_or(sandbox::DEFAULT_MEMORY, |memory| memory.0) >> 20;
    eprintln!("bulkhead: the container ran out of its {limit} MiB of memory; give it more with --memory");
}
