//! The host's hold on a sandbox: a cgroup (v2) around its VMM, where limits are asked for and can be had.
//!
//! [`parent`] finds the place, [`settings`] turns limits into what is written to the cgroup's files. The record
//! names the cgroup, so that whoever ends the sandbox, or sweeps up after it, removes it.

mod limits;
mod parent;
mod settings;
mod stats;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::parent::{Parent, ParentError};
use self::settings::Setting;

pub use limits::{CpuQuota, DeviceValue, HostLimits};
pub use settings::SettingError;
pub use stats::{HostStats, host_stats};

const MEMORY_LIMIT: &str = "memory.max";

/// How long killed processes may take to be gone.
const KILL_GRACE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    #[error("cannot limit the sandbox on this host: {0}")]
    Nowhere(String),
    #[error(
        "cannot set {option} on this host: its cgroups are without the controller \"{controller}\" here \
         (`bulkhead doctor` says which limits work)"
    )]
    NoController { option: &'static str, controller: &'static str },
    #[error(transparent)]
    Setting(#[from] SettingError),
    #[error("cannot set {option} in the cgroup {}", .path.display())]
    Write { option: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot use the cgroup {}", .path.display())]
    Use { path: PathBuf, source: io::Error },
}

/// A cgroup that is yet to be made.
#[derive(Debug)]
pub(crate) struct Plan {
    path: PathBuf,
    settings: Vec<Setting>,
}

impl Plan {
    /// What to make for a sandbox of this id, whose VM has this much memory in bytes; `None` if no limit is asked
    /// for. A limit that cannot be had here is an error only when nothing but the host can enforce it: those on
    /// processor time and memory, the guest does, too. With a parent given, the sandbox has a cgroup below that in any case.
    pub(crate) fn new(
        limits: &HostLimits,
        id: &str,
        memory: u64,
        parent: Option<&Path>,
    ) -> Result<Option<Self>, LimitError> {
        let mut settings = match (*limits == HostLimits::default(), parent) {
            (true, None) => return Ok(None),
            (true, Some(_)) => Vec::new(),
            (false, _) => settings::of(limits, memory)?,
        };
        let prepared = match parent {
            Some(path) => Parent::prepare_at(path),
            None => Parent::prepare(),
        };
        let parent = match prepared {
            Ok(parent) => parent,
            Err(_) if settings.iter().all(|setting| !setting.needed) => return Ok(None),
            Err(error) => return Err(LimitError::Nowhere(nowhere(&error))),
        };
        let lacks = |setting: &Setting| !parent.controllers.iter().any(|name| name == setting.controller);
        if let Some(Setting { option, controller, .. }) =
            settings.iter().find(|setting| setting.needed && lacks(setting))
        {
            return Err(LimitError::NoController { option, controller });
        }
        settings.retain(|setting| !lacks(setting));
        Ok(Some(Self { path: parent.path.join(id), settings }))
    }

    /// To be noted before [`make`](Self::make).
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the cgroup, and puts the limits in force.
    pub(crate) fn make(&self) -> Result<(), LimitError> {
        fs::create_dir(&self.path).map_err(|source| LimitError::Use { path: self.path.clone(), source })?;
        for Setting { option, file, value, needed, .. } in &self.settings {
            match fs::write(self.path.join(file), value) {
                Err(source) if *needed => {
                    return Err(LimitError::Write { option, path: self.path.clone(), source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The cgroup once it is made, for a process to be started in.
    pub(crate) fn open(&self) -> Result<OwnedFd, LimitError> {
        let directory = fs::File::open(&self.path);
        directory.map(OwnedFd::from).map_err(|source| LimitError::Use { path: self.path.clone(), source })
    }
}

/// Raises a limit of memory by what a copy of the sandbox takes: the pages of the copy itself, where it is in memory, and
/// those of the guest's that change while it is made. They stay with this cgroup for as long as anybody has them, so the
/// limit is not lowered again.
pub(crate) fn make_room_for_a_copy(cgroup: &Path) -> io::Result<()> {
    match memory_limit(cgroup)? {
        Some(limit) => fs::write(cgroup.join(MEMORY_LIMIT), limit.saturating_mul(3).to_string()),
        None => Ok(()),
    }
}

/// Changes a limit of memory as that of the VM changes, in bytes.
pub(crate) fn change_memory(cgroup: &Path, from: u64, to: u64) -> Result<(), LimitError> {
    let changed = || match memory_limit(cgroup)? {
        Some(limit) => {
            // What was added to it for something else stays.
            let [from, to] = [from, to].map(settings::memory_limit);
            let limit = limit.saturating_add(to).saturating_sub(from);
            fs::write(cgroup.join(MEMORY_LIMIT), limit.to_string())
        }
        None => Ok(()),
    };
    changed().map_err(|source| LimitError::Write { option: "--memory", path: cgroup.to_owned(), source })
}

/// Changes the limits on processors where they can be had: for those of a container the guest has some of its own.
pub(crate) fn limit_processors(
    cgroup: &Path,
    quota: Option<CpuQuota>,
    shares: Option<u64>,
) -> Result<(), LimitError> {
    let quota = settings::quota(quota);
    let shares = shares.map(settings::shares).transpose()?;
    for Setting { option, file, value, .. } in std::iter::once(quota).chain(shares) {
        match fs::write(cgroup.join(file), value) {
            // Without the controller.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {}
            written => {
                written.map_err(|source| LimitError::Write { option, path: cgroup.to_owned(), source })?
            }
        }
    }
    Ok(())
}

/// In bytes, if there is one.
fn memory_limit(cgroup: &Path) -> io::Result<Option<u64>> {
    match fs::read_to_string(cgroup.join(MEMORY_LIMIT)) {
        // Without the controller there is no limit.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // "max" is none.
        limit => Ok(limit?.trim().parse().ok()),
    }
}

/// Kills what is in a sandbox's cgroup, waits until it is gone, and removes it; it may be gone already. With it goes the one
/// it was made in, where a front end chose that and nothing else is in it.
pub(crate) fn remove(cgroup: &Path) -> io::Result<()> {
    remove_one(cgroup)?;
    if let Some(above) = cgroup.parent().filter(|above| !parent::is_bulkheads(above)) {
        // Where others have something in it, it is theirs.
        let _ = fs::remove_dir(above);
    }
    Ok(())
}

fn remove_one(cgroup: &Path) -> io::Result<()> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    match fs::remove_dir(cgroup) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
        Err(error) if gone(&error) => return Ok(()),
        result => return result,
    }
    // Before the kill, so that its effect is not missed.
    let events = fs::File::open(cgroup.join("cgroup.events"))?;
    fs::write(cgroup.join("cgroup.kill"), "1")?;
    while populated(cgroup)? {
        let mut changed = [PollFd::new(&events, PollFlags::PRI)];
        if rustix::io::retry_on_intr(|| poll(&mut changed, Some(&KILL_GRACE)))? == 0 {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "killed processes do not end"));
        }
        // The next poll is for what changes after this read (kernfs, as sysfs: read to be told again).
        let _ = rustix::io::pread(&events, &mut [0; 64], 0)?;
    }
    fs::remove_dir(cgroup)
}

fn populated(cgroup: &Path) -> io::Result<bool> {
    Ok(fs::read_to_string(cgroup.join("cgroup.events"))?.lines().any(|line| line == "populated 1"))
}

/// Which limits can be had on this host: the controllers, or why there are none. For `bulkhead doctor`.
pub(crate) fn available() -> Result<Vec<String>, String> {
    Parent::look().map_err(|error| nowhere(&error))
}

fn nowhere(error: &ParentError) -> String {
    match error {
        ParentError::Use { source, .. } => format!("{error}: {source}"),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn cgroup(limit: &str) -> tempfile::TempDir {
        let cgroup = tempfile::tempdir().unwrap();
        fs::write(cgroup.path().join(MEMORY_LIMIT), limit).unwrap();
        cgroup
    }

    fn limit(cgroup: &tempfile::TempDir) -> String {
        fs::read_to_string(cgroup.path().join(MEMORY_LIMIT)).unwrap()
    }

    #[test]
    fn a_limit_of_memory_follows_the_vm_and_keeps_what_was_added() {
        let cgroup = cgroup(&format!("{}\n", settings::memory_limit(GIB)));
        make_room_for_a_copy(cgroup.path()).unwrap();
        let with_room = limit(&cgroup).parse::<u64>().unwrap();
        change_memory(cgroup.path(), GIB, 3 * GIB).unwrap();
        assert_eq!(limit(&cgroup), (with_room + 2 * GIB + GIB / 64).to_string());
        change_memory(cgroup.path(), 3 * GIB, GIB).unwrap();
        assert_eq!(limit(&cgroup), with_room.to_string());
    }

    #[test]
    fn where_there_is_no_limit_none_is_made() {
        let unlimited = cgroup("max\n");
        change_memory(unlimited.path(), GIB, 3 * GIB).unwrap();
        assert_eq!(limit(&unlimited), "max\n");
        let without_controller = tempfile::tempdir().unwrap();
        change_memory(without_controller.path(), GIB, 3 * GIB).unwrap();
        assert!(!without_controller.path().join(MEMORY_LIMIT).exists());
    }
}
