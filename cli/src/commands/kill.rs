//! Sends a signal to the command of running containers.

use containers::{Containers, ContainersError, Supervisor, SupervisorError};

use super::each::{Each, each};
use crate::args::KillArgs;

#[derive(Debug, thiserror::Error)]
pub(crate) enum KillError {
    #[error(transparent)]
    Containers(#[from] ContainersError),
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
}

pub(crate) async fn kill(containers: &Containers, args: &KillArgs) -> Each<KillError> {
    each(&args.containers, async |wanted| {
        let container = containers.find(wanted)?;
        Ok(Supervisor::connect(&container)?.signal(args.signal.number()).await?)
    })
    .await
}
