//! Waits until containers have ended.

use std::io::{self, Write};

use containers::{Containers, ContainersError, Supervisor, SupervisorError};

use crate::args::WaitArgs;

#[derive(Debug, thiserror::Error)]
pub(crate) enum WaitError {
    #[error(transparent)]
    Containers(#[from] ContainersError),
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    #[error("cannot print the exit code")]
    Print(#[from] io::Error),
}

/// Prints the exit code of each, in the order they were named.
pub(crate) async fn wait(
    containers: &Containers,
    args: &WaitArgs,
    out: &mut impl Write,
) -> Result<(), WaitError> {
    // Connected to all first: one that ends and is removed while another is waited for has told its code.
    let mut waiting = Vec::new();
    for wanted in &args.containers {
        let container = containers.find(wanted)?;
        let supervisor = match Supervisor::connect(&container) {
            Err(SupervisorError::NotRunning(_)) => None,
            connected => Some(connected?),
        };
        waiting.push((container, supervisor));
    }
    for (mut container, supervisor) in waiting {
        let code = match supervisor {
            Some(supervisor) => supervisor.wait().await?.code,
            None => container.refresh()?.exit_code,
        };
        writeln!(out, "{code}")?;
        out.flush()?;
    }
    Ok(())
}
