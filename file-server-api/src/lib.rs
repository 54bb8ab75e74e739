//! The contract between a sandbox's supervisor and `bulkhead-file-server`.
//!
//! The supervisor starts the server with the descriptors named here and no other beyond standard error. It sends one
//! [`Request`] at a time over a `vmm_api::ControlSocket`, and gets one [`Reply`] to each. When the socket closes at the
//! supervisor's end, or the FUSE socket at the VMM's, the server exits.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde::{Deserialize, Serialize};

/// The descriptor at which the server finds its control socket.
pub const CONTROL_FD: i32 = 3;

/// And that of its end of [`fuse_sockets`].
pub const FUSE_FD: i32 = 4;

/// The most shares at a time.
pub const MAX_SHARES: usize = 255;

/// From the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// With one descriptor, `O_PATH` or a detached mount: a directory, which the guest sees as `/NAME` of the device, or a
    /// regular file, which then is what the guest sees there.
    ///
    /// What the guest can reach is what lies below the descriptor in its mount. A directory that can be moved out of its
    /// file system's part on the host is to be a mount of its own.
    AddShare(Share),
    /// The guest is to have let go of it.
    RemoveShare { name: String },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// One component of a path: 1 to 255 bytes without a slash, and neither `.` nor `..`.
    pub name: String,
    /// The guest's writes are refused. A mount that is read-only refuses them, too.
    pub read_only: bool,
    pub cache: Cache,
}

/// For how long the guest may believe what it has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cache {
    /// For as long as it likes: nobody but the guest changes the tree.
    Exclusive,
    /// For a second; what a file holds, until it is opened again.
    Shared,
}

/// From the server: that it is done, or why not.
pub type Reply = Result<(), Failure>;

/// In words for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub message: String,
}

/// The two ends of what carries FUSE messages, one for the VMM's device and one for the server, closed on exec.
pub fn fuse_sockets() -> io::Result<(OwnedFd, OwnedFd)> {
    /// Room for a few messages of the longest; the system may grant less.
    const ROOM: usize = 1 << 20;
    let (device, server) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    set_socket_send_buffer_size(&device, ROOM)?;
    set_socket_send_buffer_size(&server, ROOM)?;
    Ok((device, server))
}
