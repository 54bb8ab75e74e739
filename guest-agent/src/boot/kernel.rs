//! What the guest's kernel is told about network, limits and parameters.

use std::fs;
use std::io;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::{ioctls, log};

/// Open files a process may raise its limit to: what systemd and containerd give.
const HARD_FILE_LIMIT: u64 = 524_288;

/// Containers share the guest's network namespace, where a container runtime sets these for each: every user
/// may ping and bind low ports, as in a Docker container.
const PARAMETERS: [(&str, &str); 2] = [
    ("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"),
    ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
];

pub(super) fn bring_loopback_up() -> io::Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    Ok(ioctls::loopback_up(socket)?)
}

/// The agent holds descriptors for every stream; containers inherit the hard limit.
pub(super) fn set_limits() {
    let limit = Rlimit { current: Some(HARD_FILE_LIMIT), maximum: Some(HARD_FILE_LIMIT) };
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        log::warn(format_args!("cannot raise the limit of open files: {error}"));
    }
}

pub(super) fn set_parameters() {
    for (path, value) in PARAMETERS {
        if let Err(error) = fs::write(path, value) {
            log::warn(format_args!("cannot set {path}: {error}"));
        }
    }
}
