//! `bulkhead-oci run`.

use std::io;

use super::start;
use crate::args::RunArgs;
use crate::foreground::{self, ForegroundError, Tied};
use crate::log::Log;
use crate::make::{Made, MakeError, make};
use crate::runtime::wait_for;
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
    if let Err(error) = start::start_created(root, &container, log) {
        // Why it was to end is more to tell than how it did.
        let _ = teardown::end(root, &container, log);
        return Err(error.into());
    }
    if args.detach {
        return Ok(0);
    }
    let tied = console.as_ref().map(Tied::tie).transpose();
    let followed = wait_for(async { foreground::follow(supervisor.into_child(), tied?).await })?;
    if !args.keep {
        teardown::end(root, &container, log)?;
    }
    Ok(followed?)
}
