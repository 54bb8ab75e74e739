//! The kernel's announcements of devices that come and go (netlink, NETLINK_KOBJECT_UEVENT).

use std::io;

use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

use crate::descriptor::Descriptor;

/// The multicast group of the kernel's own messages; udev's are another.
const KERNEL_GROUP: u32 = 1;

/// The kernel cuts no message longer than this (lib/kobject_uevent.c, UEVENT_BUFFER_SIZE and its header).
const MAX_MESSAGE_LEN: usize = 4 * 1024;

/// A subscription: what is announced from its creation on is not missed.
pub(crate) struct Uevents {
    socket: Descriptor,
}

impl Uevents {
    pub(crate) fn subscribe() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(KOBJECT_UEVENT))?;
        bind(&socket, &SocketAddrNetlink::new(0, KERNEL_GROUP))?;
        Ok(Self { socket: Descriptor::new(socket)? })
    }

    /// Waits for the next announcement of any kind. What it says is left to sysfs, which is not lossy.
    pub(crate) async fn next(&self) -> io::Result<()> {
        let mut message = vec![0; MAX_MESSAGE_LEN];
        match self.socket.read(&mut message).await {
            // Announcements were lost: something happened all the same.
            Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => Ok(()),
            result => result.map(drop),
        }
    }
}
