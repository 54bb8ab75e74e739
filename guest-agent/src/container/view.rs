//! A container's files, as the calls about files see them.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;

use super::in_root::InRoot;
use super::rootfs::Sides;

/// While it exists, the container's disks stay mounted.
pub(super) struct View {
    /// The container's first process, if it lives.
    pub init: Option<(Pid, OwnedFd)>,
    /// The container's bundle.
    pub dir: PathBuf,
    /// Where the agent has the root file system.
    pub rootfs: PathBuf,
    pub sides: Sides,
    /// Held, and read by nobody.
    pub _in_use: Arc<()>,
}

impl View {
    /// The root as the container's processes see it, with all that is mounted in it; once they are gone, as its
    /// disks have it.
    pub(super) fn root(&self) -> io::Result<InRoot> {
        match &self.init {
            Some((pid, pidfd)) => match InRoot::open(Path::new(&format!("/proc/{pid}/root"))) {
                // It was this process all along: a pid is given again only after its end.
                Ok(root) if is_alive(pidfd)? => Ok(root),
                _ => self.disks(),
            },
            None => self.disks(),
        }
    }

    /// The root as the container's disks have it.
    pub(super) fn disks(&self) -> io::Result<InRoot> {
        InRoot::open(&self.rootfs)
    }
}

/// A process's descriptor is readable once it has ended (pidfd_open(2)).
pub(super) fn is_alive(pidfd: &OwnedFd) -> io::Result<bool> {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    Ok(poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&now))? == 0)
}
