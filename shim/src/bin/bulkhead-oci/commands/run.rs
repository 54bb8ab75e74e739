//! `bulkhead-oci run`.

use std::io;

use super::{in_runtime, start};
use crate::args::RunArgs;
use crate::foreground::{self, ForegroundError, Tied};
use crate::log::Log;
use crate::make::{Made, MakeError, make};
use crate::state::Root;
use crate::teardown::{self, TeardownError};

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Make(#[from] MakeError),
    #[error(transparent)]
    Start(#[from] start::Error),
    #[error(transparent)]
    Foreground(#[from] ForegroundError),
    #[error(transparent)]
    Teardown(#[from] TeardownError),
    #[error("cannot wait for the container's supervisor")]
    Runtime(#[from] io::Error),
}

/// Gives the exit code of the container's process, where it is waited for.
pub(super) fn run(root: &Root, args: &RunArgs, log: &Log) -> Result<u8, Error> {
    let Made { container, supervisor, console } = make(root, &args.id, &args.starting, args.detach, log)?;
    let started = start::start_created(root, &container, log);
    if let Err(error) = started {
        in_runtime(teardown::destroy(root, &container))??;
        teardown::clear(root, &container, log)?;
        return Err(error.into());
    }
    if args.detach {
        return Ok(0);
    }
    let tied = console.as_ref().map(Tied::tie).transpose();
    let followed = in_runtime(async { foreground::follow(supervisor.into_child(), tied?).await })?;
    if !args.keep {
        in_runtime(teardown::destroy(root, &container))??;
        teardown::clear(root, &container, log)?;
    }
    Ok(followed?)
}
