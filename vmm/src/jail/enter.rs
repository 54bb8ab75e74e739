//! From a process of its launcher's making to one with an empty root, no privilege, and an identity that
//! owns nothing.

use std::io;

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, unmount,
};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, pivot_root, set_dumpable_behavior, setrlimit,
};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, Gid, Uid, UnshareFlags,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_capabilities_secure_bits, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid, unshare_unsafe,
};
use vmm_api::Identity;

use super::forbidden;

/// The most descriptors: every stream of the vsock device has two for a moment, and there are disks.
const MOST_DESCRIPTORS: u64 = 4096;

#[derive(Debug, thiserror::Error)]
pub enum JailError {
    #[error("cannot limit the process's {0}")]
    Limit(&'static str, #[source] io::Error),
    #[error(
        "cannot have a mount namespace of its own: this takes root, or a system that lets users make user \
         namespaces (sysctl kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)"
    )]
    Namespace(#[source] io::Error),
    #[error("cannot {0} the empty root")]
    Root(&'static str, #[source] io::Error),
    #[error("cannot become user {uid} and group {gid}")]
    Identity {
        uid: u32,
        gid: u32,
        #[source]
        source: io::Error,
    },
    #[error("cannot give up capabilities")]
    Capabilities(#[source] io::Error),
    #[error("cannot close the process to tracers, or to new privileges")]
    Attributes(#[source] io::Error),
    #[error("cannot catch forbidden system calls")]
    Handler(#[source] io::Error),
}

/// Enters the jail. What is open stays open; no path leads anywhere any more.
///
/// Credentials are a thread's own in Linux: call this while the process has one thread, and those that come
/// later inherit them.
pub fn enter(identity: Option<Identity>) -> Result<(), JailError> {
    forbidden::report().map_err(JailError::Handler)?;
    limit_resources()?;
    leave_mounts()?;
    empty_root()?;
    bar_capabilities().map_err(|error| JailError::Capabilities(error.into()))?;
    if let Some(identity) = identity {
        become_identity(identity)?;
    }
    drop_capabilities().map_err(|error| JailError::Capabilities(error.into()))?;
    close_to_others().map_err(|error| JailError::Attributes(error.into()))
}

fn limit_resources() -> Result<(), JailError> {
    let limit = |resource, name, most: u64| {
        let hard = getrlimit(resource).maximum.map_or(most, |hard| hard.min(most));
        setrlimit(resource, Rlimit { current: Some(hard), maximum: Some(hard) })
            .map_err(|error| JailError::Limit(name, error.into()))
    };
    limit(Resource::Nofile, "descriptors", MOST_DESCRIPTORS)?;
    // A core would hold the guest's memory.
    limit(Resource::Core, "core file", 0)
}

/// A mount namespace of its own; who has no privilege to make one gets it in a user namespace.
fn leave_mounts() -> Result<(), JailError> {
    match unshare(UnshareFlags::NEWNS) {
        Err(rustix::io::Errno::PERM) => unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS),
        outcome => outcome,
    }
    .map_err(|error| JailError::Namespace(error.into()))
}

fn unshare(namespaces: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: neither namespace takes descriptors or memory from under other code of this process.
    unsafe { unshare_unsafe(namespaces) }
}

/// Puts a read-only tmpfs without a file in the root's place, and lets go of everything that was there.
fn empty_root() -> Result<(), JailError> {
    let step = |name| move |error: rustix::io::Errno| JailError::Root(name, error.into());
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(step("set apart"))?;
    let root = empty_tmpfs().map_err(step("make"))?;
    move_mount(&root, "", rustix::fs::CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(step("mount"))?;
    rustix::process::fchdir(&root).map_err(step("enter"))?;
    // pivot_root(2): with both the same, the old root ends up mounted over the new one.
    pivot_root(".", ".").map_err(step("pivot to"))?;
    unmount(".", UnmountFlags::DETACH).map_err(step("detach what was under"))?;
    rustix::process::chdir("/").map_err(step("enter"))
}

fn empty_tmpfs() -> rustix::io::Result<rustix::fd::OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "size", "4k")?;
    fsconfig_set_string(&context, "nr_inodes", "1")?;
    fsconfig_set_string(&context, "mode", "0555")?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Sees to it that no capability comes back, by an identity or a program. Whoever may not do so has none
/// that could, as long as no-new-privileges holds.
fn bar_capabilities() -> rustix::io::Result<()> {
    // The kernel's capabilities are numbered without a gap; EINVAL is the first it does not know.
    for number in 0..u64::BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Err(rustix::io::Errno::INVAL) => break,
            Err(rustix::io::Errno::PERM) => return Ok(()),
            outcome => outcome?,
        }
    }
    set_capabilities_secure_bits(
        CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED,
    )
}

fn become_identity(identity: Identity) -> Result<(), JailError> {
    let Identity { uid, gid } = identity;
    let become_both = || {
        let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
        set_thread_groups(&[])?;
        set_thread_res_gid(group, group, group)?;
        set_thread_res_uid(user, user, user)
    };
    become_both().map_err(|error: rustix::io::Errno| JailError::Identity { uid, gid, source: error.into() })
}

fn drop_capabilities() -> rustix::io::Result<()> {
    clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
}

/// Last, for a change of identity makes the process dumpable as the system's default has it.
fn close_to_others() -> rustix::io::Result<()> {
    set_no_new_privs(true)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}
