//! How another process of this host reaches a sandbox's guest: the supervisor, which alone can ask the
//! VMM for streams, hands them out over a socket in the sandbox's directory.
//!
//! One connection, one request, one reply with one descriptor. A client that wants to know when the
//! sandbox ends keeps a connection and asks nothing on it.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;
use vmm_api::Failure;

use crate::control::AsyncControl;
use crate::local_socket::{self, LocalListener};
use crate::vmm::VmmHandle;

/// The socket's name in the sandbox's directory.
const SOCKET: &str = "broker";

/// Between a failure to accept and the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Asks for a stream to a vsock port of the guest.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Dial {
    pub(crate) port: u32,
}

/// `Ok` comes with the stream's descriptor.
pub(crate) type Dialled = Result<(), Failure>;

/// Connects to the broker of the sandbox whose directory this is.
pub(crate) fn connect(directory: impl AsFd) -> io::Result<AsyncControl> {
    local_socket::connect(directory, SOCKET)
}

/// Serves until it is dropped.
pub(crate) struct Broker {
    task: AbortHandle,
}

impl Broker {
    /// Makes the socket in `directory` and serves it from a task of its own.
    pub(crate) fn serve(directory: impl AsFd, vmm: VmmHandle) -> io::Result<Self> {
        let listener = LocalListener::bind(directory, SOCKET)?;
        let task = tokio::spawn(async move {
            // The connections' tasks end with the set, and that with this task.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => match accepted {
                        Ok(connection) => {
                            connections.spawn(serve_connection(connection, vmm.clone()));
                        }
                        // Most likely out of descriptors for a while; the client waits in the backlog.
                        Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                    },
                    Some(_) = connections.join_next() => {}
                }
            }
        })
        .abort_handle();
        Ok(Self { task })
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers one request. Whatever goes wrong shows to the client as a closed connection.
async fn serve_connection(connection: AsyncControl, vmm: VmmHandle) {
    let Ok((Dial { port }, _)) = connection.receive().await else { return };
    let _ = match vmm.connect(port).await {
        Ok(stream) => connection.send(&Dialled::Ok(()), &[stream.as_fd()]).await,
        Err(error) => connection.send(&Dialled::Err(Failure { message: error.to_string() }), &[]).await,
    };
}
