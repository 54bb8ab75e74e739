//! `bulkhead-oci pause` and `resume`.

use std::io;

use crate::client::{Client, ClientError};
use crate::protocol::Ask;
use crate::runtime::wait_for;
use crate::state::{Container, Root, StateError, Status};

/// In runc's words.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("container not running: {0}")]
    NotRunning(Status),
    #[error("container not paused")]
    NotPaused,
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot wait for the container's supervisor")]
    Runtime(#[from] io::Error),
}

pub(super) fn pause(root: &Root, id: &str) -> Result<(), Error> {
    let container = root.load(id)?;
    match container.status() {
        Status::Running => ask(root, &container, Ask::Pause),
        status => Err(Error::NotRunning(status)),
    }
}

pub(super) fn resume(root: &Root, id: &str) -> Result<(), Error> {
    let container = root.load(id)?;
    match container.status() {
        Status::Paused => ask(root, &container, Ask::Resume),
        _ => Err(Error::NotPaused),
    }
}

fn ask(root: &Root, container: &Container, ask: Ask) -> Result<(), Error> {
    let asked = async { Client::connect(root, &container.pod, &container.id)?.ask(ask).await };
    Ok(wait_for(asked)??)
}
