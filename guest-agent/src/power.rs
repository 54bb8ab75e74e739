//! Switches the guest off.

use std::fs;

use rustix::fs::sync;
use rustix::mount::{UnmountFlags, unmount};
use rustix::system::{RebootCommand, reboot};

use crate::{container, error_chain, log};

/// Ends all containers, writes everything to the disks and switches off. Does not return on a sound kernel.
pub fn off() {
    if let Err(error) = container::kill_all() {
        log::warn(error_chain::describe(&error));
    }
    unmount_disks();
    sync();
    now();
}

/// Switches off without more ado.
pub fn now() {
    // A kernel that cannot switch its machine off returns; every machine can be reset.
    for command in [RebootCommand::PowerOff, RebootCommand::Restart] {
        if let Err(error) = reboot(command) {
            log::fatal(format_args!("cannot switch off ({command:?}): {error}"));
        }
    }
}

/// Unmounts what takes writes: the containers' file systems before the disks below them. What is still in use
/// by a process about to die is left to the sync.
fn unmount_disks() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in mounts.lines().rev() {
        let mut fields = line.split(' ').skip(1);
        if let (Some(path), Some("overlay" | "ext4")) = (fields.next(), fields.next()) {
            let _ = unmount(path, UnmountFlags::empty());
        }
    }
}
