//! `bulkhead-oci start`.

use std::io;

use shim::{Moment, run_hooks};

use crate::client::{Client, ClientError};
use crate::log::Log;
use crate::protocol::Ask;
use crate::runtime::wait_for;
use crate::state::{Container, Root, StateError, Status};

/// In runc's words.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("cannot start a container that has stopped")]
    Stopped,
    #[error("cannot start an already running container")]
    Running,
    #[error("cannot start a container in the {0} state")]
    Other(Status),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot wait for the container's supervisor")]
    Runtime(#[from] io::Error),
}

pub(super) fn start(root: &Root, id: &str, log: &Log) -> Result<(), Error> {
    let container = root.load(id)?;
    match container.status() {
        Status::Created => {}
        Status::Stopped => return Err(Error::Stopped),
        Status::Running => return Err(Error::Running),
        other => return Err(Error::Other(other)),
    }
    start_created(root, &container, log)
}

/// One that is known to be created.
pub(super) fn start_created(root: &Root, container: &Container, log: &Log) -> Result<(), Error> {
    let asked = async { Client::connect(root, &container.pod, &container.id)?.ask(Ask::Start).await };
    wait_for(asked)??;
    if let Some(hooks) = &container.hooks {
        // As it is by now; it may have ended, and been removed.
        let state = root.load(&container.id).unwrap_or_else(|_| container.clone()).for_hooks();
        // The container goes on whatever they do (OCI runtime-spec, runtime.md, "Lifecycle").
        if let Err(error) = run_hooks(hooks, Moment::Poststart, &state) {
            log.warning(&shim::describe(&error));
        }
    }
    Ok(())
}
