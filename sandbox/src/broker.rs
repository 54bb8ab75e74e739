//! How another process of this host reaches a sandbox's guest: the supervisor, which alone can ask the
//! VMM for streams, hands them out over a socket in the sandbox's directory.
//!
//! One connection, one request, one reply with one descriptor. A client that wants to know when the
//! sandbox ends keeps a connection and asks nothing on it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::AbortHandle;
use vmm_api::{ControlSocket, Failure};

use crate::control::AsyncControl;
use crate::vmm::VmmHandle;

/// The socket's name in the sandbox's directory.
const SOCKET: &str = "broker";

/// Connections the kernel keeps until they are accepted.
const BACKLOG: i32 = 64;

/// Between a failure to accept and the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Asks for a stream to a vsock port of the guest.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Dial {
    pub(crate) port: u32,
}

/// `Ok` comes with the stream's descriptor.
pub(crate) type Dialled = Result<(), Failure>;

/// Serves until it is dropped.
pub(crate) struct Broker {
    task: AbortHandle,
}

impl Broker {
    /// Makes the socket in `directory` and serves it from a task of its own.
    pub(crate) fn serve(directory: impl AsFd, vmm: VmmHandle) -> io::Result<Self> {
        let listener = socket()?;
        rustix::net::bind(&listener, &address(&directory)?)?;
        rustix::net::listen(&listener, BACKLOG)?;
        // It accepts connections as any other; what kind they are of is the socket's own matter.
        let listener = UnixListener::from_std(listener.into())?;
        let task = tokio::spawn(async move {
            // The connections' tasks end with the set, and that with this task.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => match accepted {
                        Ok((connection, _)) => {
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

/// Connects to the broker of the sandbox whose directory this is.
pub(crate) fn connect(directory: impl AsFd) -> io::Result<AsyncControl> {
    let socket = socket()?;
    rustix::net::connect(&socket, &address(&directory)?)?;
    AsyncControl::new(ControlSocket::from(socket))
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// A socket's address has 108 bytes (unix(7)); by way of the open directory, its path is short always.
fn address(directory: &impl AsFd) -> io::Result<SocketAddrUnix> {
    let directory = directory.as_fd().as_raw_fd();
    let path = PathBuf::from(format!("/proc/self/fd/{directory}/{SOCKET}"));
    Ok(SocketAddrUnix::new(path)?)
}

/// The directory is closed to others, and so is the socket; who asks is checked nevertheless.
fn may_ask(connection: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    connection.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
}

/// Answers one request. Whatever goes wrong shows to the client as a closed connection.
async fn serve_connection(connection: UnixStream, vmm: VmmHandle) {
    if !may_ask(&connection) {
        return;
    }
    let Ok(connection) = control(connection) else { return };
    let Ok((Dial { port }, _)) = connection.receive().await else { return };
    let _ = match vmm.connect(port).await {
        Ok(stream) => connection.send(&Dialled::Ok(()), &[stream.as_fd()]).await,
        Err(error) => connection.send(&Dialled::Err(Failure { message: error.to_string() }), &[]).await,
    };
}

fn control(connection: UnixStream) -> io::Result<AsyncControl> {
    AsyncControl::new(ControlSocket::from(OwnedFd::from(connection.into_std()?)))
}
