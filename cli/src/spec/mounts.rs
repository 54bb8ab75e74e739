//! What is mounted in a container, and which kernel files are hidden from it: as Docker has it.

use std::path::Path;

use oci_spec::OciSpecError;
use oci_spec::runtime::{Mount, MountBuilder};

use crate::args::Tmpfs;

/// Destination, file system, options.
const DEFAULT: [(&str, &str, &[&str]); 7] = [
    ("/proc", "proc", &["nosuid", "noexec", "nodev"]),
    ("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    // Group 5 is tty, in every distribution.
    ("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    ("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
];

/// Whose size may be chosen.
const SHM: &str = "/dev/shm";

/// Kernel files a container cannot read.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Kernel files a container cannot write.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Docker's mounts and those of `--tmpfs`, which take the place of one at the same path.
pub(super) fn mounts(tmpfs: &[Tmpfs], shm_size: Option<u64>) -> Result<Vec<Mount>, OciSpecError> {
    let replaced = |destination: &str| tmpfs.iter().any(|tmpfs| tmpfs.path == Path::new(destination));
    let default = DEFAULT.iter().filter(|(destination, ..)| !replaced(destination)).map(
        |(destination, file_system, options)| {
            let options = options.iter().map(|option| match shm_size {
                Some(bytes) if *destination == SHM && option.starts_with("size=") => format!("size={bytes}"),
                _ => (*option).to_owned(),
            });
            let options = options.collect();
            mount(Path::new(destination), file_system, options)
        },
    );
    let own = tmpfs.iter().map(|tmpfs| mount(&tmpfs.path, "tmpfs", tmpfs.options.clone()));
    let mut mounts = default.chain(own).collect::<Result<Vec<_>, _>>()?;
    // A mount hides what was mounted below its path before.
    mounts.sort_by_key(|mount| mount.destination().components().count());
    Ok(mounts)
}

fn mount(destination: &Path, file_system: &str, options: Vec<String>) -> Result<Mount, OciSpecError> {
    MountBuilder::default()
        .destination(destination)
        .typ(file_system)
        .source(file_system)
        .options(options)
        .build()
}

pub(super) fn masked_paths() -> Vec<String> {
    MASKED.map(str::to_owned).to_vec()
}

pub(super) fn read_only_paths() -> Vec<String> {
    READ_ONLY.map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destinations(tmpfs: &[&str]) -> Vec<String> {
        let tmpfs: Vec<Tmpfs> = tmpfs.iter().map(|text| text.parse().unwrap()).collect();
        mounts(&tmpfs, None).unwrap().iter().map(|mount| mount.destination().display().to_string()).collect()
    }

    #[test]
    fn a_mount_comes_after_the_one_it_lies_below() {
        let destinations = destinations(&["/run/lock/deep", "/run"]);
        let place = |path: &str| destinations.iter().position(|destination| destination == path);
        assert!(place("/run") < place("/run/lock/deep"));
        assert!(place("/dev") < place("/dev/pts"));
        assert!(place("/sys") < place("/sys/fs/cgroup"));
    }

    #[test]
    fn a_tmpfs_takes_the_place_of_a_default_mount() {
        assert_eq!(destinations(&["/dev/shm:size=1g"]).len(), DEFAULT.len());
        let tmpfs = ["/dev/shm:size=1g".parse().unwrap()];
        let mounts = mounts(&tmpfs, None).unwrap();
        let shm = mounts.iter().find(|mount| mount.destination() == Path::new("/dev/shm")).unwrap();
        assert!(shm.options().as_ref().unwrap().contains(&"size=1g".to_owned()));
    }
}
