//! Descriptors the agent's single thread reads and writes without ever blocking on them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The most bytes of one write. A vsock socket makes a packet of what it gets, in one piece of memory: up to eight
/// pages with its header, which the kernel always finds. A longer one it may refuse where memory is in small pieces
/// (ENOMEM; Linux, `PAGE_ALLOC_COSTLY_ORDER`), and the stream would end there.
pub(crate) const WRITE_LEN: usize = 28 * 1024;

/// A pipe, socket, terminal or watch, set to non-blocking and known to the runtime.
pub(crate) struct Descriptor {
    fd: AsyncFd<OwnedFd>,
}

impl Descriptor {
    /// Must be called inside the runtime.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        // SAFETY: AsyncFd owns the descriptor and always gives the same one; nothing closes it before.
        let fd = unsafe { AsyncFd::register(fd)? };
        Ok(Self { fd })
    }

    /// Waits for bytes; 0 is end-of-file. A vsock stream that went because its guest goes on in another VM is in error,
    /// which to epoll is not the same as readable.
    pub(crate) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.fd.ready(Interest::READABLE | Interest::ERROR).await?;
            match ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut *buffer)?)) {
                Ok(result) => return result,
                Err(_would_block) => continue,
            }
        }
    }

    /// The bytes that are there; [`Errno::AGAIN`] if none are.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        rustix::io::read(self.fd.get_ref(), buffer)
    }

    /// Waits until all bytes are taken.
    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            bytes = bytes.get(self.write(bytes).await?..).unwrap_or_default();
        }
        Ok(())
    }

    /// Waits until some bytes are taken, and tells how many. Takes none if given up before.
    pub(crate) async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let some = bytes.get(..WRITE_LEN).unwrap_or(bytes);
        loop {
            let mut ready = self.fd.ready(Interest::WRITABLE | Interest::ERROR).await?;
            match ready.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), some)?)) {
                Ok(result) => return result,
                Err(_would_block) => continue,
            }
        }
    }

    /// Waits until the other side is gone, and drops what it says until then.
    pub(crate) async fn ended(&self) -> io::Error {
        loop {
            let mut ready = match self.fd.ready(Interest::READABLE | Interest::ERROR).await {
                Ok(ready) => ready,
                Err(error) => return error,
            };
            if ready.ready().is_error() {
                return io::ErrorKind::ConnectionReset.into();
            }
            match ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut [0; 64])?)) {
                Ok(Ok(0)) => return io::ErrorKind::ConnectionReset.into(),
                Ok(Err(error)) => return error,
                Ok(Ok(_)) | Err(_) => {}
            }
        }
    }

    /// The descriptor, still non-blocking.
    pub(crate) fn into_inner(self) -> OwnedFd {
        self.fd.into_inner()
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.get_ref().as_fd()
    }
}
