//! Ends running containers, and starts them again.

use containers::{Containers, ContainersError, Supervisor, SupervisorError};

use super::each::{Each, each};
use crate::args::{StopArgs, StopHow};

#[derive(Debug, thiserror::Error)]
pub(crate) enum StopError {
    #[error(transparent)]
    Containers(#[from] ContainersError),
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
}

pub(crate) async fn stop(containers: &Containers, args: &StopArgs) -> Each<StopError> {
    each(&args.containers, async |wanted| stop_one(containers, wanted, &args.how).await).await
}

/// One that does not run is stopped already.
pub(super) async fn stop_one(containers: &Containers, wanted: &str, how: &StopHow) -> Result<(), StopError> {
    let container = containers.find(wanted)?;
    let stopped = match Supervisor::connect(&container) {
        Ok(supervisor) => supervisor.stop(how.signal.map(|signal| signal.number()), how.timeout).await,
        Err(error) => Err(error),
    };
    match stopped {
        Ok(_) | Err(SupervisorError::NotRunning(_) | SupervisorError::Failed(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
