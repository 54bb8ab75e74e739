//! Sockets by which the processes of one user on this host speak to each other: sequenced packets, in a
//! directory that is closed to others.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{UnixListener, UnixStream};
use vmm_api::ControlSocket;

use crate::control::AsyncControl;

/// Connections the kernel keeps until they are accepted.
const BACKLOG: i32 = 64;

/// Takes connections of this user's processes and root's.
#[derive(Debug)]
pub struct LocalListener(UnixListener);

impl LocalListener {
    /// Makes the socket `name` in `directory`. Wants a Tokio runtime.
    pub fn bind(directory: impl AsFd, name: &str) -> io::Result<Self> {
        Self::from_bound(bind(directory, name)?)
    }

    /// One that [`bind`] made, in this process or another.
    pub fn from_bound(socket: OwnedFd) -> io::Result<Self> {
        // It accepts connections as any other; what kind they are of is the socket's own matter.
        Ok(Self(UnixListener::from_std(socket.into())?))
    }

    /// The next connection. Cancelled, it loses none.
    pub async fn accept(&self) -> io::Result<AsyncControl> {
        loop {
            let (connection, _) = self.0.accept().await?;
            if may_ask(&connection) {
                return AsyncControl::new(ControlSocket::from(OwnedFd::from(connection.into_std()?)));
            }
        }
    }
}

/// The socket of a [`LocalListener`], which takes connections from now on, if not in this process.
pub fn bind(directory: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    let socket = socket()?;
    rustix::net::bind(&socket, &address(&directory, name)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Connects to the socket `name` in `directory`. Wants a Tokio runtime.
pub fn connect(directory: impl AsFd, name: &str) -> io::Result<AsyncControl> {
    let socket = socket()?;
    rustix::net::connect(&socket, &address(&directory, name)?)?;
    AsyncControl::new(ControlSocket::from(socket))
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// A socket's address has 108 bytes (unix(7)); by way of the open directory, its path is short always.
fn address(directory: &impl AsFd, name: &str) -> io::Result<SocketAddrUnix> {
    let directory = directory.as_fd().as_raw_fd();
    Ok(SocketAddrUnix::new(PathBuf::from(format!("/proc/self/fd/{directory}/{name}")))?)
}

/// The directory is closed to others, and so is the socket; who asks is checked nevertheless.
fn may_ask(connection: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    connection.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
}
