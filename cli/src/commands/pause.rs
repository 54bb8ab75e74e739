//! Stops all processes of containers where they are, and lets them go on.

use containers::{Containers, ContainersError, Supervisor, SupervisorError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum PauseError {
    #[error(transparent)]
    Containers(#[from] ContainersError),
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
}

/// Tries each, and gives the reasons of those that could not be paused.
pub(crate) async fn pause(containers: &Containers, names: &[String]) -> Vec<PauseError> {
    each(containers, names, async |supervisor: &Supervisor| supervisor.pause().await).await
}

/// Tries each, and gives the reasons of those that do not go on.
pub(crate) async fn unpause(containers: &Containers, names: &[String]) -> Vec<PauseError> {
    each(containers, names, async |supervisor: &Supervisor| supervisor.unpause().await).await
}

async fn each(
    containers: &Containers,
    names: &[String],
    ask: impl AsyncFn(&Supervisor) -> Result<(), SupervisorError>,
) -> Vec<PauseError> {
    let mut errors = Vec::new();
    for name in names {
        let asked = async {
            let supervisor = Supervisor::connect(&containers.find(name)?)?;
            Ok(ask(&supervisor).await?)
        };
        match asked.await {
            Ok(()) => println!("{name}"),
            Err(error) => errors.push(error),
        }
    }
    errors
}
