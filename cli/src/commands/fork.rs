//! Makes running containers of a running one.

use std::io::{self, Write};

use containers::{
    Claimed, Container, Containers, ContainersError, StartError, Started, Supervisor, SupervisorError,
};
use sandbox::{DEFAULT_MEMORY, GUEST_OVERHEAD, Installation, InstallationError, RoomError, TemporaryCopy};

use super::copy_of::{self, CopyError, Wanted};
use super::df::disk_usage;
use super::supervise::{ProgramError, program};
use crate::args::ForkArgs;
use crate::data_dir::DataDir;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ForkError {
    #[error(transparent)]
    Installation(#[from] InstallationError),
    #[error(transparent)]
    Containers(#[from] ContainersError),
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    #[error(transparent)]
    Room(#[from] RoomError),
    #[error("cannot make a copy of the container")]
    Copy(#[from] CopyError),
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("cannot print an id")]
    Print(#[source] io::Error),
}

/// Prints the ids of those that run, and gives the reasons of those that do not.
pub(crate) async fn fork(
    containers: &Containers,
    data: &DataDir,
    args: &ForkArgs,
) -> Result<Vec<ForkError>, ForkError> {
    Installation::find()?;
    let mother = containers.find(&args.container)?;
    let copy = TemporaryCopy::new(containers.state(), most_of(&mother))?;
    let files = copy.files();
    Supervisor::connect(&mother)?.snapshot(&files).await?;

    let mut errors = Vec::new();
    let mut starting = Vec::new();
    for number in 1..=args.number {
        let wanted = Wanted { name: name(args, number), rm: args.rm, stdin_once: None };
        let made = copy_of::make(containers, data, mother.config(), &files, wanted);
        match start(containers, data, made).await {
            Ok(started) => starting.push(started),
            Err(error) => errors.push(error),
        }
    }
    let mut running = Vec::new();
    for started in starting {
        let container = started.attachment().container();
        match started.running().await {
            Ok(()) => running.push(container.id().to_owned()),
            Err(error) => {
                errors.push(error.into());
                remove(containers, container)?;
            }
        }
    }
    for id in running {
        writeln!(io::stdout(), "{id}").map_err(ForkError::Print)?;
    }
    Ok(errors)
}

/// Bytes that a copy takes at most: of memory, and of the disk.
fn most_of(mother: &Container) -> u64 {
    let memory = mother.config().memory.unwrap_or(DEFAULT_MEMORY).saturating_add(GUEST_OVERHEAD);
    memory.saturating_add(disk_usage(mother))
}

/// A copy that did not come to run, which nothing could be made of later. It may be gone by itself.
fn remove(containers: &Containers, container: &Container) -> Result<(), ContainersError> {
    match containers.find(container.id()).and_then(|container| containers.claim(&container)) {
        Ok(claimed) => containers.remove(claimed),
        Err(_) => Ok(()),
    }
}

/// Of so many; `None` for one of chance.
fn name(args: &ForkArgs, number: u16) -> Option<String> {
    let name = args.name.as_ref()?;
    Some(if args.number == 1 { name.clone() } else { format!("{name}{number}") })
}

/// One that cannot be started is gone again.
async fn start(
    containers: &Containers,
    data: &DataDir,
    made: Result<Claimed, CopyError>,
) -> Result<Started, ForkError> {
    let claimed = made?;
    match program(data, claimed.container().id()) {
        Ok(program) => Ok(claimed.start(program, None, false).await?.0),
        Err(error) => {
            containers.remove(claimed)?;
            Err(error.into())
        }
    }
}
