//! The few system calls on namespaces, mounts and taps that no other crate makes safe.

use std::fs::{File, OpenOptions};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::ptr;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Has this thread alone go on in a network namespace of its own, with nothing in it but a loopback that is down.
pub fn leave_network() -> io::Result<()> {
    // SAFETY: no descriptor or memory is taken from under other code: a thread's sockets stay what they are.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?)
}

/// Has this thread alone go on in a mount namespace of its own, and with a working directory of its own.
pub fn leave_mounts() -> io::Result<()> {
    // SAFETY: as above; open files stay open.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }?)
}

/// Whether a descriptor is of a network namespace (ioctl_ns(2), NS_GET_NSTYPE).
pub fn is_network_namespace(namespace: impl AsFd) -> bool {
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: the request has no argument; what knows it not answers with an error.
    unsafe { libc::ioctl(namespace.as_fd().as_raw_fd(), NS_GET_NSTYPE) == libc::CLONE_NEWNET }
}

/// Makes a mount read-only, and with `recursive` all that is mounted below it (mount_setattr(2)).
pub fn make_read_only(mount: impl AsFd, recursive: bool) -> io::Result<()> {
    let attributes =
        libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: path and attributes live through the call, and their lengths are told right.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            mem::size_of_val(&attributes),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A network interface whose far side is a descriptor: what the host sends to it is read there, and what is written there
/// has come in. It goes with the last of its descriptors.
#[derive(Debug)]
pub struct Tap {
    pub name: String,
    /// At least one; the kernel keeps a flow's packets to one of them.
    pub queues: Vec<OwnedFd>,
}

impl Tap {
    /// One in this thread's network namespace, with so many queues and a header of virtio-net before each packet (Linux
    /// Documentation/networking/tuntap.rst). `pattern` is its name, with `%d` for a number that is free.
    pub fn new(pattern: &str, queues: u8) -> io::Result<Self> {
        let several = if queues > 1 { libc::IFF_MULTI_QUEUE } else { 0 };
        let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | several;
        let mut request = interface_request(pattern)?;
        request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).map_err(io::Error::other)?;
        // The first makes the interface, and the kernel writes its name into the request; the others are of that name.
        let queues = (0..queues.max(1)).map(|_| tap_queue(&mut request)).collect::<io::Result<_>>()?;
        let name = request.ifr_name.iter().take_while(|byte| **byte != 0);
        let name = name.map(|byte| char::from(byte.to_ne_bytes()[0])).collect();
        Ok(Self { name, queues })
    }
}

fn tap_queue(request: &mut libc::ifreq) -> io::Result<OwnedFd> {
    let queue: File =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    // SAFETY: the request is a struct ifreq, which the kernel reads and writes within the call.
    if unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETIFF, ptr::from_mut(request)) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(queue.into())
}

fn interface_request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: a struct of integers and pointers that may be null.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    // The last byte stays the NUL.
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "an interface's name has at most 15 bytes"));
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = libc::c_char::from_ne_bytes([byte]);
    }
    Ok(request)
}
