//! The socket over which a process's terminal comes: libcontainer makes the terminal in the container's own
//! devpts and sends its master, as the runtimes' --console-socket does.

use std::fs;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};

/// A socket that waits for one terminal.
pub struct Console {
    listener: UnixListener,
    path: PathBuf,
}

impl Console {
    pub fn bind(dir: &Path, name: &str) -> io::Result<Self> {
        let path = dir.join(format!("console-{name}.sock"));
        Ok(Self { listener: UnixListener::bind(&path)?, path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The terminal's master.
    pub async fn master(&self) -> io::Result<OwnedFd> {
        let (connection, _) = self.listener.accept().await?;
        loop {
            connection.readable().await?;
            let received = connection.try_io(Interest::READABLE, || receive_descriptor(&connection));
            match received {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                result => return result,
            }
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // What stays is removed with the container's directory.
        let _ = fs::remove_file(&self.path);
    }
}

fn receive_descriptor(connection: &UnixStream) -> io::Result<OwnedFd> {
    let mut name = [0; 256];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(connection, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message
            && let Some(master) = fds.next()
        {
            return Ok(master);
        }
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no terminal came"))
}
