//! Where the devices are that no interface needs yet: a network namespace nobody is in. Containers are in the guest's own,
//! and would see them there.

use std::io;
use std::thread;

use rtnetlink::packet_route::link::LinkFlags;
use rtnetlink::{Handle, LinkUnspec, new_connection};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use tokio::sync::Mutex;

use super::kernel::{all, failed};
use super::{NetworkError, devices};

/// Whoever has this socket has the namespace it is in.
static PARKED: Mutex<Option<Handle>> = Mutex::const_new(None);

/// By whom the guest's own namespace is known.
const AGENT: u32 = 1;

/// Puts away the devices there are.
pub(crate) async fn park() -> Result<(), NetworkError> {
    let found = devices::list_all()?;
    if found.is_empty() {
        return Ok(());
    }
    let (namespace, there) = open_namespace().map_err(NetworkError::Socket)?;
    let (connection, here, _) = new_connection().map_err(NetworkError::Socket)?;
    tokio::spawn(connection);
    for index in found {
        let change = LinkUnspec::new_with_index(index)
            .setns_by_fd(std::os::fd::AsRawFd::as_raw_fd(&namespace))
            .build();
        let moved = here.link().change(change).execute().await;
        moved.map_err(|error| failed("put a device away".to_owned(), &error))?;
    }
    *PARKED.lock().await = Some(there);
    Ok(())
}

/// Takes back what was put away.
pub(super) async fn fetch() -> Result<(), NetworkError> {
    let Some(there) = PARKED.lock().await.take() else { return Ok(()) };
    for message in all("devices", there.link().get().execute()).await? {
        if !message.header.flags.contains(LinkFlags::Loopback) {
            let change = LinkUnspec::new_with_index(message.header.index).setns_by_pid(AGENT).build();
            let moved = there.link().change(change).execute().await;
            moved.map_err(|error| failed("take a device back".to_owned(), &error))?;
        }
    }
    Ok(())
}

/// A new namespace, and a socket in it.
fn open_namespace() -> io::Result<(std::fs::File, Handle)> {
    let runtime = tokio::runtime::Handle::current();
    let opening = thread::Builder::new().spawn(move || {
        // SAFETY: the thread is a new one, and a network namespace has no part in memory or descriptors.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
        let _runtime = runtime.enter();
        let (connection, handle, _) = new_connection()?;
        tokio::spawn(connection);
        Ok((std::fs::File::open("/proc/thread-self/ns/net")?, handle))
    })?;
    opening.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
}
