//! The supervisor that has a container's virtual machine, as other processes see it.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use sandbox::{AsyncControl, ReceiveError, SendError, local_socket};

use crate::blob::{self, BlobError};
use crate::protocol::{Ask, Reply, Request, SOCKET};
use crate::state::Root;

/// A connection to it, about one container.
pub(crate) struct Client {
    connection: AsyncControl,
    container: String,
}

/// In runc's words, by which its callers know them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("container not running")]
    NotRunning,
    #[error("{0}")]
    Refused(String),
    #[error("cannot reach the container's supervisor")]
    Connect(#[source] io::Error),
    #[error("cannot ask the container's supervisor")]
    Ask(#[source] SendError),
    #[error("no answer from the container's supervisor")]
    Answer(#[source] ReceiveError),
    #[error("the container's supervisor gave no answer of its protocol")]
    NoAnswer,
    #[error("cannot read the answer of the container's supervisor")]
    Blob(#[from] BlobError),
}

impl Client {
    /// Connects to the supervisor that has the virtual machine of `pod`. Wants a Tokio runtime.
    pub(crate) fn connect(root: &Root, pod: &str, container: &str) -> Result<Self, ClientError> {
        let connection =
            File::open(root.directory(pod)).and_then(|directory| local_socket::connect(directory, SOCKET));
        match connection {
            Ok(connection) => Ok(Self { connection, container: container.to_owned() }),
            Err(error) => Err(match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning,
                _ => ClientError::Connect(error),
            }),
        }
    }

    /// Asks for something that is only done or not.
    pub(crate) async fn ask(&self, ask: Ask) -> Result<(), ClientError> {
        self.send(ask, &[]).await?;
        match self.answer().await? {
            (Reply::Done, _) => Ok(()),
            _ => Err(ClientError::NoAnswer),
        }
    }

    /// Asks for something that comes in a blob.
    pub(crate) async fn ask_for<T: serde::de::DeserializeOwned>(&self, ask: Ask) -> Result<T, ClientError> {
        self.send(ask, &[]).await?;
        match self.answer().await? {
            (Reply::Blob, descriptors) => {
                let blob = descriptors.into_iter().next().ok_or(ClientError::NoAnswer)?;
                Ok(blob::read(blob)?)
            }
            _ => Err(ClientError::NoAnswer),
        }
    }

    pub(crate) async fn send(&self, ask: Ask, descriptors: &[BorrowedFd<'_>]) -> Result<(), ClientError> {
        let request = Request { container: self.container.clone(), ask };
        match self.connection.send(&request, descriptors).await {
            Ok(()) => Ok(()),
            // It has gone; what it last said may still be there to read.
            Err(SendError::Socket(_)) => Ok(()),
            Err(error) => Err(ClientError::Ask(error)),
        }
    }

    /// The next answer. Cancelled, it loses none.
    pub(crate) async fn answer(&self) -> Result<(Reply, Vec<OwnedFd>), ClientError> {
        match self.connection.receive().await {
            Ok((Reply::Refused(message), _)) => Err(ClientError::Refused(message)),
            Ok(answer) => Ok(answer),
            Err(ReceiveError::Closed) => Err(ClientError::NotRunning),
            Err(ReceiveError::Socket(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                Err(ClientError::NotRunning)
            }
            Err(error) => Err(ClientError::Answer(error)),
        }
    }
}
