//! The socket over which a process's terminal comes: libcontainer makes the terminal in the container's own
//! devpts and sends its master, as the runtimes' --console-socket does.

use std::fs::{self, File};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};

/// A socket that waits for one terminal.
pub struct Console {
    listener: UnixListener,
    path: PathBuf,
}

impl Console {
    pub fn bind(dir: &Path) -> io::Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("console-{}.sock", NUMBER.fetch_add(1, Ordering::Relaxed));
        // A socket's address holds 107 bytes (unix(7)), less than the directory of a long ID may take.
        let opened = File::open(dir)?;
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/{name}", opened.as_raw_fd()))?;
        Ok(Self { listener, path: dir.join(name) })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_long_path_is_no_hindrance() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("i".repeat(200));
        fs::create_dir(&dir).unwrap();
        let consoles = [Console::bind(&dir).unwrap(), Console::bind(&dir).unwrap()];
        assert!(consoles.iter().all(|console| console.path().exists()));
        drop(consoles);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    }
}
