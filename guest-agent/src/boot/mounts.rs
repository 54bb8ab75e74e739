//! The mounts of the guest.

use std::ffi::CString;
use std::fs;
use std::io;

use rustix::mount::{MountFlags, mount, mount_bind, mount_move};
use rustix::process::{chdir, chroot};

use super::BootError;

/// Makes "/" a mount that pivot_root(2) can move away.
///
/// The initramfs is the kernel's initial root, which pivot_root refuses to replace, in the namespaces of
/// containers too. A bind mount of it, moved on top of it, is an ordinary mount of the same files: nothing is
/// copied.
pub(super) fn leave_initial_rootfs() -> io::Result<()> {
    const NEW_ROOT: &str = "/run";
    fs::create_dir_all(NEW_ROOT)?;
    mount_bind("/", NEW_ROOT)?;
    chdir(NEW_ROOT)?;
    mount_move(".", "/")?;
    chroot(".")?;
    chdir("/")?;
    Ok(())
}

struct Mount {
    at: &'static str,
    file_system: &'static str,
    flags: MountFlags,
    options: &'static str,
}

const NO_PROGRAMS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

const MOUNTS: [Mount; 7] = [
    Mount { at: "/proc", file_system: "proc", flags: NO_PROGRAMS, options: "" },
    Mount { at: "/sys", file_system: "sysfs", flags: NO_PROGRAMS, options: "" },
    Mount { at: "/dev", file_system: "devtmpfs", flags: MountFlags::NOSUID, options: "mode=0755" },
    // Group 5 is tty, by convention of every distribution.
    Mount {
        at: "/dev/pts",
        file_system: "devpts",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        options: "mode=0620,gid=5,ptmxmode=0666",
    },
    Mount {
        at: "/dev/shm",
        file_system: "tmpfs",
        flags: MountFlags::NOSUID.union(MountFlags::NODEV),
        options: "mode=1777",
    },
    Mount {
        at: "/run",
        file_system: "tmpfs",
        flags: MountFlags::NOSUID.union(MountFlags::NODEV),
        options: "mode=0755",
    },
    Mount { at: "/sys/fs/cgroup", file_system: "cgroup2", flags: NO_PROGRAMS, options: "nsdelegate" },
];

pub(super) fn mount_all() -> Result<(), BootError> {
    for Mount { at, file_system, flags, options } in MOUNTS {
        let mount = || -> io::Result<()> {
            fs::create_dir_all(at)?;
            let options = CString::new(options)?;
            Ok(mount(file_system, at, file_system, flags, Some(options.as_c_str()))?)
        };
        mount().map_err(|source| BootError::Mount { at, source })?;
    }
    Ok(())
}
