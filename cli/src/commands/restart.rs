//! Ends containers and starts them again.

use containers::events::Action;
use containers::{Containers, ContainersError};

use super::each::{Each, each};
use super::start::{StartingError, start_one};
use super::stop::{StopError, stop_one};
use crate::args::RestartArgs;
use crate::data_dir::DataDir;

#[derive(Debug, thiserror::Error)]
pub(crate) enum RestartError {
    #[error(transparent)]
    Containers(#[from] ContainersError),
    #[error(transparent)]
    Stop(#[from] StopError),
    #[error(transparent)]
    Start(#[from] StartingError),
}

pub(crate) async fn restart(
    containers: &Containers,
    data: &DataDir,
    args: &RestartArgs,
) -> Each<RestartError> {
    each(&args.containers, async |wanted| {
        let container = containers.find(wanted)?;
        stop_one(containers, container.id(), &args.how).await?;
        start_one(containers, data, container.id()).await?;
        containers.events().note(&container, Action::Restart, &[]);
        Ok(())
    })
    .await
}
