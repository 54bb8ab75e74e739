//! A container's cgroup (Linux Documentation/admin-guide/cgroup-v2.rst).

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bpf::cgroup_devices::{self, DeviceProgram};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use tokio::time::timeout;

use crate::descriptor::Descriptor;

/// Where cgroups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// The cgroup of all containers, below the mount.
const PARENT: &str = "bulkhead";

/// Controllers a container's limits and statistics need, as far as the kernel has them.
const CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "io", "memory", "pids", "hugetlb"];

/// How long processes may take to stand still: those in the middle of a system call end it first.
const FREEZE_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
#[error("cgroup {}: cannot {action}", path.display())]
pub struct CgroupError {
    path: PathBuf,
    action: &'static str,
    source: io::Error,
}

/// Makes the parent of all containers' cgroups and hands it the controllers.
pub fn prepare() -> Result<(), CgroupError> {
    let parent = Path::new(MOUNT).join(PARENT);
    fs::create_dir_all(&parent).map_err(|source| CgroupError {
        path: parent.clone(),
        action: "make it",
        source,
    })?;
    for cgroup in [Path::new(MOUNT), &parent] {
        enable_controllers(cgroup).map_err(|source| CgroupError {
            path: cgroup.to_owned(),
            action: "enable controllers",
            source,
        })?;
    }
    // For the first program of its kind the kernel changes code of its own. Where a guest goes on from a template, that took
    // more than two hundred page faults, as the memory there is mapped in large pages that are not to be written to.
    let parent = Cgroup { path: parent };
    let first = DeviceProgram::load(&cgroup_devices::allow_all());
    parent.restrict_devices(&first.map_err(|source| parent.error("restrict its devices", source))?)
}

/// Kills every process of every container.
pub fn kill_all() -> Result<(), CgroupError> {
    Cgroup { path: Path::new(MOUNT).join(PARENT) }.kill()
}

fn enable_controllers(cgroup: &Path) -> io::Result<()> {
    let available = fs::read_to_string(cgroup.join("cgroup.controllers"))?;
    let wanted: Vec<String> = available
        .split_whitespace()
        .filter(|name| CONTROLLERS.contains(name))
        .map(|name| format!("+{name}"))
        .collect();
    fs::write(cgroup.join("cgroup.subtree_control"), wanted.join(" "))
}

/// One container's cgroup.
#[derive(Clone)]
pub(super) struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// A directory in the place of one.
    #[cfg(test)]
    pub(super) fn pretended(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub(super) fn create(container_id: &str) -> Result<Self, CgroupError> {
        let cgroup = Self { path: Path::new(MOUNT).join(PARENT).join(container_id) };
        fs::create_dir(&cgroup.path).map_err(|source| cgroup.error("make it", source))?;
        Ok(cgroup)
    }

    /// The path in an OCI spec's cgroupsPath: from the mount's root.
    pub(super) fn spec_path(&self) -> PathBuf {
        Path::new("/").join(self.path.strip_prefix(MOUNT).unwrap_or(&self.path))
    }

    /// Has a program decide what its processes may do with devices.
    pub(super) fn restrict_devices(&self, program: &DeviceProgram) -> Result<(), CgroupError> {
        File::open(&self.path)
            .and_then(|cgroup| program.attach(cgroup))
            .map_err(|source| self.error("restrict its devices", source))
    }

    /// Kills everything in it and below, at once.
    pub(super) fn kill(&self) -> Result<(), CgroupError> {
        fs::write(self.path.join("cgroup.kill"), "1")
            .map_err(|source| self.error("kill its processes", source))
    }

    /// The processes in it and below.
    pub(super) fn processes(&self) -> Result<Vec<Pid>, CgroupError> {
        let mut pids = Vec::new();
        collect_processes(&self.path, &mut pids)
            .map_err(|source| self.error("list its processes", source))?;
        Ok(pids)
    }

    /// How many processes the kernel killed in it for want of memory.
    pub(super) fn memory_kills(&self) -> u64 {
        let events = fs::read_to_string(self.path.join("memory.events")).unwrap_or_default();
        value(&events, "oom_kill").unwrap_or(0)
    }

    /// A watch of what [`Cgroup::memory_kills`] counts.
    pub(super) fn watch_memory(&self) -> Result<Watch, CgroupError> {
        Watch::of(&self.path.join("memory.events")).map_err(|source| self.error("watch its memory", source))
    }

    /// Whether its processes stand still, or are on their way to.
    pub(super) fn is_frozen(&self) -> bool {
        fs::read_to_string(self.path.join("cgroup.freeze")).is_ok_and(|state| state.trim() == "1")
    }

    /// Stops its processes where they are, and waits until they stand. Undone should that not come about.
    pub(super) async fn freeze(&self) -> Result<(), CgroupError> {
        let events = self.path.join("cgroup.events");
        let watch = Watch::of(&events).map_err(|source| self.error("watch it", source))?;
        self.set_frozen("1")?;
        let standing = async {
            while value(&self.read("cgroup.events")?, "frozen") != Some(1) {
                watch.changed().await.map_err(|source| self.error("watch it", source))?;
            }
            Ok(())
        };
        let result = timeout(FREEZE_PATIENCE, standing).await;
        let result = result.unwrap_or_else(|elapsed| Err(self.error("freeze it", elapsed.into())));
        if result.is_err() {
            self.thaw()?;
        }
        result
    }

    /// Lets its processes go on.
    pub(super) fn thaw(&self) -> Result<(), CgroupError> {
        self.set_frozen("0")
    }

    fn set_frozen(&self, state: &str) -> Result<(), CgroupError> {
        fs::write(self.path.join("cgroup.freeze"), state)
            .map_err(|source| self.error("freeze or thaw it", source))
    }

    /// Whether the kernel has this file for it.
    pub(super) fn has(&self, file: &str) -> bool {
        self.path.join(file).exists()
    }

    /// Sets one of its files.
    pub(super) fn set(&self, file: &str, value: &str) -> Result<(), CgroupError> {
        fs::write(self.path.join(file), value).map_err(|source| self.error("change its limits", source))
    }

    /// One of its files, whole.
    pub(super) fn read(&self, file: &str) -> Result<String, CgroupError> {
        fs::read_to_string(self.path.join(file)).map_err(|source| self.error("read its state", source))
    }

    /// Kills what is left, waits until nothing is, and removes it and what is below. It may be gone already:
    /// libcontainer removes the cgroup of a container it could not make.
    pub(super) async fn remove(&self) -> Result<(), CgroupError> {
        if !self.path.exists() {
            return Ok(());
        }
        let events = self.path.join("cgroup.events");
        let watch = Watch::of(&events).map_err(|source| self.error("watch it", source))?;
        while self.is_populated()? {
            self.kill()?;
            watch.changed().await.map_err(|source| self.error("watch it", source))?;
        }
        remove_tree(&self.path).map_err(|source| self.error("remove it", source))
    }

    fn is_populated(&self) -> Result<bool, CgroupError> {
        Ok(value(&self.read("cgroup.events")?, "populated") == Some(1))
    }

    fn error(&self, action: &'static str, source: io::Error) -> CgroupError {
        CgroupError { path: self.path.clone(), action, source }
    }
}

/// Tells when a file of a cgroup changes.
pub(super) struct Watch {
    inotify: Descriptor,
}

impl Watch {
    fn of(path: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC)?;
        inotify::add_watch(&inotify, path, WatchFlags::MODIFY)?;
        Ok(Self { inotify: Descriptor::new(inotify)? })
    }

    /// Waits until the file has changed since the watch began or was last asked.
    pub(super) async fn changed(&self) -> io::Result<()> {
        self.inotify.read(&mut [0; 512]).await.map(drop)
    }
}

fn collect_processes(cgroup: &Path, pids: &mut Vec<Pid>) -> io::Result<()> {
    let list = fs::read_to_string(cgroup.join("cgroup.procs"))?;
    pids.extend(list.lines().filter_map(|line| line.parse().ok().and_then(Pid::from_raw)));
    for child in children(cgroup)? {
        collect_processes(&child, pids)?;
    }
    Ok(())
}

fn remove_tree(cgroup: &Path) -> io::Result<()> {
    for child in children(cgroup)? {
        remove_tree(&child)?;
    }
    match fs::remove_dir(cgroup) {
        Err(error) if error.raw_os_error() != Some(Errno::NOENT.raw_os_error()) => Err(error),
        _ => Ok(()),
    }
}

fn children(cgroup: &Path) -> io::Result<Vec<PathBuf>> {
    let mut children = Vec::new();
    for entry in fs::read_dir(cgroup)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            children.push(entry.path());
        }
    }
    Ok(children)
}

/// The value of a key in a flat keyed file.
pub(super) fn value(flat_keyed: &str, key: &str) -> Option<u64> {
    let line = flat_keyed.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_whole_key() {
        let events = "low 0\noom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(value(events, "oom_kill"), Some(2));
        assert_eq!(value(events, "oom"), Some(3));
        assert_eq!(value(events, "populated"), None);
    }
}
