//! A [`ControlSocket`] that waits without blocking the thread: the connections to the VMM, and those between
//! the processes of this host that care for a sandbox.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixStream;
use vmm_api::{ControlSocket, ReceiveError, SendError};

/// Packets of JSON, with descriptors beside them.
pub struct AsyncControl {
    socket: ControlSocket,
    /// The same socket, registered with the runtime: only asked whether it is ready. That it is no
    /// byte stream makes no difference to that.
    readiness: UnixStream,
}

impl AsyncControl {
    /// Sets the socket non-blocking and registers it with the current runtime.
    pub fn new(socket: ControlSocket) -> io::Result<Self> {
        let twin = std::os::unix::net::UnixStream::from(socket.as_fd().try_clone_to_owned()?);
        twin.set_nonblocking(true)?;
        Ok(Self { socket, readiness: UnixStream::from_std(twin)? })
    }

    /// Sends one message with its descriptors.
    pub async fn send(
        &self,
        message: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), SendError> {
        loop {
            self.readiness.writable().await.map_err(SendError::Socket)?;
            let attempt =
                self.readiness.try_io(Interest::WRITABLE, || match self.socket.send(message, descriptors) {
                    Err(SendError::Socket(error)) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
                    done => Ok(done),
                });
            if let Ok(done) = attempt {
                return done;
            }
        }
    }

    /// Receives one message with its descriptors. Cancelled, it loses none.
    pub async fn receive<M: DeserializeOwned>(&self) -> Result<(M, Vec<OwnedFd>), ReceiveError> {
        loop {
            self.readiness.readable().await.map_err(ReceiveError::Socket)?;
            let attempt = self.readiness.try_io(Interest::READABLE, || match self.socket.receive() {
                Err(ReceiveError::Socket(error)) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
                done => Ok(done),
            });
            // An error here means: not ready after all.
            if let Ok(done) = attempt {
                return done;
            }
        }
    }
}
