//! The supervisor's requests.

use std::os::fd::OwnedFd;

use file_server_api::{Failure, Reply, Request};
use vmm_api::{ControlSocket, ReceiveError, SendError};

use crate::in_words;
use crate::shares::{ShareError, Shares};

#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error("cannot hear the supervisor")]
    Receive(#[source] ReceiveError),
    #[error("cannot answer the supervisor")]
    Send(#[source] SendError),
}

/// Serves the supervisor until it closes the socket.
pub(crate) fn serve(control: &ControlSocket, shares: &Shares) -> Result<(), ControlError> {
    loop {
        let (request, descriptors) = match control.receive::<Request>() {
            Ok(received) => received,
            Err(ReceiveError::Closed) => return Ok(()),
            Err(error) => return Err(ControlError::Receive(error)),
        };
        let reply: Reply =
            answer(request, descriptors, shares).map_err(|error| Failure { message: in_words(&error) });
        control.send(&reply, &[]).map_err(ControlError::Send)?;
    }
}

fn answer(request: Request, descriptors: Vec<OwnedFd>, shares: &Shares) -> Result<(), ShareError> {
    match request {
        Request::AddShare(share) => match <[OwnedFd; 1]>::try_from(descriptors) {
            Ok([root]) => shares.add(share, root),
            Err(_) => Err(ShareError::Descriptors(share.name)),
        },
        Request::RemoveShare { name } => shares.remove(&name),
    }
}
