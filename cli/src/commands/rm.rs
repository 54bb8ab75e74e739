//! Removes containers.

use containers::{Containers, ContainersError, StopTimeout, Supervisor, SupervisorError};

use super::each::{Each, each};
use crate::args::RmArgs;

#[derive(Debug, thiserror::Error)]
pub(crate) enum RmError {
    #[error(transparent)]
    Containers(#[from] ContainersError),
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
}

pub(crate) async fn rm(containers: &Containers, args: &RmArgs) -> Each<RmError> {
    each(&args.containers, async |wanted| match rm_one(containers, wanted, args.force).await {
        // It was to go, and is gone.
        Err(RmError::Containers(ContainersError::NotFound(_))) if args.force => Ok(()),
        done => done,
    })
    .await
}

async fn rm_one(containers: &Containers, wanted: &str, force: bool) -> Result<(), RmError> {
    let container = containers.find(wanted)?;
    if force
        && container.status().supervisor.is_some()
        && let Ok(supervisor) = Supervisor::connect(&container)
    {
        match supervisor.stop(None, Some(StopTimeout::After(0))).await {
            Ok(_) | Err(SupervisorError::NotRunning(_) | SupervisorError::Failed(_)) => {}
            Err(error) => return Err(error.into()),
        }
        if container.config().auto_remove {
            return Ok(());
        }
    }
    Ok(containers.remove(containers.claim(&container)?)?)
}
