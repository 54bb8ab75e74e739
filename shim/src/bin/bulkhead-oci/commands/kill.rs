//! `bulkhead-oci kill`.

use std::io;

use shim::{Signal, SignalError};

use crate::args::KillArgs;
use crate::client::{Client, ClientError};
use crate::protocol::Ask;
use crate::runtime::wait_for;
use crate::state::{Root, StateError, Status};

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Signal(#[from] SignalError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot wait for the container's supervisor")]
    Runtime(#[from] io::Error),
}

pub(super) fn kill(root: &Root, args: &KillArgs) -> Result<(), Error> {
    let container = root.load(&args.id)?;
    let signal = args.signal.parse::<Signal>()?.number();
    if container.status() == Status::Stopped {
        return Err(ClientError::NotRunning.into());
    }
    // It only asks whether there is somebody (kill(2)).
    if signal == 0 {
        return Ok(());
    }
    let ask = Ask::Signal { signal, all: args.all };
    let asked = async { Client::connect(root, &container.pod, &container.id)?.ask(ask).await };
    Ok(wait_for(asked)??)
}
