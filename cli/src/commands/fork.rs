//! Makes running containers of a running one.

use std::io::{self, Write};

use containers::{Claimed, Containers, ContainersError, StartError, Started, Supervisor, SupervisorError};
use sandbox::{Installation, InstallationError, TemporaryCopy};

use super::copy_of::{self, CopyError, Wanted};
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
    #[error("cannot make room for a copy of the container")]
    Room(#[source] io::Error),
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
    let copy = TemporaryCopy::new(containers.state()).map_err(ForkError::Room)?;
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
    for started in starting {
        match started.running().await {
            Ok(()) => {
                let id = started.attachment().container().id();
                writeln!(io::stdout(), "{id}").map_err(ForkError::Print)?;
            }
            Err(error) => errors.push(error.into()),
        }
    }
    Ok(errors)
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
