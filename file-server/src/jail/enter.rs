//! From a process of its launcher's making to one that reaches no file but the shares'.

use std::io;

use file_server_api::FUSE_FD;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, mount_remount,
    move_mount, open_tree, unmount,
};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, chdir, fchdir, getegid, geteuid, getrlimit, pivot_root,
    set_dumpable_behavior, setrlimit,
};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, UnshareFlags, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits, set_no_new_privs,
    unshare_unsafe,
};

/// What it takes to do to files what the guest's root may do to its own. With CAP_DAC_READ_SEARCH a file that is open can
/// be linked; that it also opens files by their handles is the system call filter's concern.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::SETFCAP);

#[derive(Debug, thiserror::Error)]
pub(crate) enum JailError {
    #[error("cannot close what was inherited")]
    Inherited(#[source] io::Error),
    #[error("cannot limit the process's {0}")]
    Limit(&'static str, #[source] io::Error),
    #[error("cannot have namespaces of its own")]
    Namespace(#[source] io::Error),
    #[error("cannot {0} the empty root")]
    Root(&'static str, #[source] io::Error),
    #[error("cannot give up capabilities")]
    Capabilities(#[source] io::Error),
    #[error("cannot confine the process's system calls")]
    Filter(#[source] io::Error),
    #[error("cannot close the process to tracers, or to new privileges")]
    Attributes(#[source] io::Error),
}

/// Closes every descriptor beyond the two sockets. Call it before anything else opens one.
pub(crate) fn close_inherited() -> Result<(), JailError> {
    const FIRST: libc::c_uint = FUSE_FD.unsigned_abs() + 1;
    // SAFETY: nothing in this process owns these descriptors: it has opened none yet.
    match unsafe { libc::close_range(FIRST, libc::c_uint::MAX, 0) } {
        0 => Ok(()),
        _ => Err(JailError::Inherited(io::Error::last_os_error())),
    }
}

/// Enters the jail, while the process has one thread.
pub(crate) fn enter() -> Result<(), JailError> {
    limit_resources()?;
    leave_namespaces()?;
    empty_root()?;
    give_up_capabilities().map_err(|error| JailError::Capabilities(error.into()))?;
    close_to_others().map_err(|error| JailError::Attributes(error.into()))?;
    super::filter::confine().map_err(JailError::Filter)
}

fn limit_resources() -> Result<(), JailError> {
    // Each file the guest's kernel knows of is a descriptor. Root may have more than its launcher has.
    const MOST: u64 = 1 << 20;
    let all = Rlimit { current: Some(MOST), maximum: Some(MOST) };
    if setrlimit(Resource::Nofile, all).is_err() {
        let hard = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard })
            .map_err(|error| JailError::Limit("descriptors", error.into()))?;
    }
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .map_err(|error| JailError::Limit("core file", error.into()))
}

/// Namespaces of its own; who has no privilege to make them gets them in a user namespace, in which it is root and there is
/// nobody else.
fn leave_namespaces() -> Result<(), JailError> {
    // No network namespace: to make a socket is no system call it has, and to make a namespace takes half of its start.
    let own = UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    let (uid, gid) = (geteuid(), getegid());
    match unshare(own) {
        Err(rustix::io::Errno::PERM) => {}
        outcome => return outcome.map_err(|error| JailError::Namespace(error.into())),
    }
    unshare(own | UnshareFlags::NEWUSER).map_err(|error| JailError::Namespace(error.into()))?;
    std::fs::write("/proc/self/setgroups", "deny")
        .and_then(|()| std::fs::write("/proc/self/uid_map", format!("0 {} 1", uid.as_raw())))
        .and_then(|()| std::fs::write("/proc/self/gid_map", format!("0 {} 1", gid.as_raw())))
        .map_err(JailError::Namespace)
}

fn unshare(namespaces: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: none of these namespaces takes descriptors or memory from under other code of this process.
    unsafe { unshare_unsafe(namespaces) }
}

/// Puts a read-only tmpfs in the root's place, with the one directory of /proc that leads to this process's descriptors, and
/// lets go of everything that was there.
fn empty_root() -> Result<(), JailError> {
    let step = |name| move |error: rustix::io::Errno| JailError::Root(name, error.into());
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(step("set apart"))?;
    let own = format!("/proc/{}/fd", std::process::id());
    let descriptors = open_tree(CWD, own, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
        .map_err(step("find what goes into"))?;
    let root = tmpfs().map_err(step("make"))?;
    let way = furnish(&root).map_err(step("furnish"))?;
    let empty_path = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&root, "", CWD, "/", empty_path).map_err(step("mount"))?;
    move_mount(&descriptors, "", &way, "", empty_path | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH)
        .map_err(step("mount /proc in"))?;
    fchdir(&root).map_err(step("enter"))?;
    // pivot_root(2): with both the same, the old root ends up mounted over the new one.
    pivot_root(".", ".").map_err(step("pivot to"))?;
    unmount(".", UnmountFlags::DETACH).map_err(step("detach what was under"))?;
    chdir("/").map_err(step("enter"))?;
    let attributes = rustix::mount::MountFlags::BIND
        | rustix::mount::MountFlags::RDONLY
        | rustix::mount::MountFlags::NOSUID
        | rustix::mount::MountFlags::NODEV
        | rustix::mount::MountFlags::NOEXEC;
    mount_remount("/", attributes, "").map_err(step("close"))
}

fn tmpfs() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "size", "4k")?;
    fsconfig_set_string(&context, "nr_inodes", "5")?;
    fsconfig_set_string(&context, "mode", "0555")?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// What fuse-backend-rs looks for: its descriptors, and a list of mounts, which it opens and does not read. Gives the
/// directory on which the descriptors go.
fn furnish(root: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let mode = Mode::from_raw_mode(0o555);
    for directory in ["proc", "proc/self", "proc/self/fd"] {
        mkdirat(root, directory, mode)?;
    }
    let new = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    openat(root, "proc/self/mountinfo", new, Mode::from_raw_mode(0o444))?;
    openat(root, "proc/self/fd", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

/// Down to those that are kept, with none that could come back.
fn give_up_capabilities() -> rustix::io::Result<()> {
    // The kernel's capabilities are numbered without a gap; EINVAL is the first it does not know.
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if KEPT.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            Err(rustix::io::Errno::INVAL) => break,
            outcome => outcome?,
        }
    }
    set_capabilities_secure_bits(
        CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED,
    )?;
    clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: KEPT, permitted: KEPT, inheritable: none })
}

fn close_to_others() -> rustix::io::Result<()> {
    set_no_new_privs(true)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}
