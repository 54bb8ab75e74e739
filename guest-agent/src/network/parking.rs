//! Where the devices are that no interface needs yet: a network namespace nobody is in. Containers are in the guest's own,
//! and would see them there.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;

use rustix::thread::{UnshareFlags, unshare_unsafe};
use tokio::sync::Mutex;

use super::NetworkError;
use super::devices;
use super::kernel::Kernel;
use super::netlink;

/// A socket of the namespace, which is there for as long as the socket is.
static PARKED: Mutex<Option<Kernel>> = Mutex::const_new(None);

/// Puts away the devices there are.
pub(crate) async fn park() -> Result<(), NetworkError> {
    let found = devices::list_all()?;
    if found.is_empty() {
        return Ok(());
    }
    let (namespace, socket) = open_namespace().map_err(NetworkError::Socket)?;
    let mut here = Kernel::connect()?;
    for index in found {
        here.move_device(index, namespace.as_raw_fd()).await?;
    }
    *PARKED.lock().await = Some(Kernel::over(socket)?);
    Ok(())
}

/// Takes back what was put away.
pub(super) async fn fetch() -> Result<(), NetworkError> {
    let Some(mut there) = PARKED.lock().await.take() else { return Ok(()) };
    let own = File::open("/proc/self/ns/net").map_err(NetworkError::Socket)?;
    for index in there.devices().await? {
        there.move_device(index, own.as_raw_fd()).await?;
    }
    Ok(())
}

/// A new namespace, and a socket in it.
fn open_namespace() -> io::Result<(File, OwnedFd)> {
    let opening = thread::Builder::new().spawn(|| {
        // SAFETY: the thread is a new one, and a network namespace has no part in memory or descriptors.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
        Ok((File::open("/proc/thread-self/ns/net")?, netlink::open()?))
    })?;
    opening.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
}
