//! Where on this host sandboxes' cgroups may be.
//!
//! Root takes a cgroup at the top of the hierarchy. Anyone else needs one that was delegated: a directory of the
//! hierarchy that is theirs, above the cgroup this process is in, and without processes of its own ("no internal
//! process constraint", Linux Documentation/admin-guide/cgroup-v2.rst). systemd gives every user one
//! (user@.service); whether this process is below it depends on how it was started.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

/// Where cgroup v2 is mounted, alone.
const MOUNT: &str = "/sys/fs/cgroup";

/// The cgroup of all sandboxes, in that of root or of the user.
const NAME: &str = "bulkhead";

/// What limits need; each host has as many of them as it was given.
const CONTROLLERS: [&str; 4] = ["cpu", "io", "memory", "pids"];

/// A cgroup whose children are sandboxes'.
#[derive(Debug)]
pub(super) struct Parent {
    pub(super) path: PathBuf,
    /// The controllers its children have.
    pub(super) controllers: Vec<String>,
}

/// Why there is no place.
#[derive(Debug, thiserror::Error)]
pub(super) enum ParentError {
    #[error("{MOUNT} is no cgroup v2 (a host with systemd boots with systemd.unified_cgroup_hierarchy=1)")]
    NoUnified,
    #[error(
        "no cgroup was delegated to this user; run the command below the user's own service manager \
         (`systemd-run --user --scope bulkhead …`), or as root"
    )]
    NotDelegated,
    #[error("cannot use the cgroup {}", .path.display())]
    Use { path: PathBuf, source: io::Error },
}

impl Parent {
    /// Finds the place, and makes it ready.
    pub(super) fn prepare() -> Result<Self, ParentError> {
        let base = base()?;
        let path = base.join(NAME);
        let used = || -> io::Result<Vec<String>> {
            enable(&base)?;
            fs::create_dir_all(&path)?;
            enable(&path)
        };
        match used() {
            Ok(controllers) => Ok(Self { path, controllers }),
            Err(source) => Err(ParentError::Use { path, source }),
        }
    }

    /// Makes that one ready which somebody else chose: an absolute path in the hierarchy. It may be there, with limits on all
    /// that is in it.
    pub(super) fn prepare_at(path: &Path) -> Result<Self, ParentError> {
        let mount = Path::new(MOUNT);
        if !mount.join("cgroup.controllers").exists() {
            return Err(ParentError::NoUnified);
        }
        let used = || -> io::Result<Self> {
            let place = below_mount(path)?;
            fs::create_dir_all(&place)?;
            let mut controllers = Vec::new();
            for cgroup in from_the_top(&place) {
                controllers = enable(cgroup)?;
            }
            Ok(Self { path: place, controllers })
        };
        used().map_err(|source| ParentError::Use { path: path.to_owned(), source })
    }

    /// The controllers sandboxes would have, found without changing anything.
    pub(super) fn look() -> Result<Vec<String>, ParentError> {
        let base = base()?;
        read_controllers(&base.join("cgroup.controllers"))
            .map_err(|source| ParentError::Use { path: base, source })
    }
}

/// Whether it is the cgroup of all sandboxes.
pub(super) fn is_bulkheads(cgroup: &Path) -> bool {
    cgroup.file_name().is_some_and(|name| name == NAME)
}

/// The cgroup in which the one of all sandboxes is.
fn base() -> Result<PathBuf, ParentError> {
    let mount = Path::new(MOUNT);
    if !mount.join("cgroup.controllers").exists() {
        return Err(ParentError::NoUnified);
    }
    if rustix::process::geteuid().is_root() {
        return Ok(mount.to_owned());
    }
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own_path(&own).ok_or(ParentError::NoUnified)?;
    let above = mount.join(own).parent().map(Path::to_owned).ok_or(ParentError::NotDelegated)?;
    if above.starts_with(mount) && is_delegated(&above) { Ok(above) } else { Err(ParentError::NotDelegated) }
}

/// A cgroup's directory, by its path in the hierarchy.
fn below_mount(path: &Path) -> io::Result<PathBuf> {
    let mut place = PathBuf::from(MOUNT);
    for part in path.components() {
        match part {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => place.push(name),
            Component::ParentDir | Component::Prefix(_) => return Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    Ok(place)
}

/// A cgroup after all those it is in.
fn from_the_top(cgroup: &Path) -> Vec<&Path> {
    let mut all: Vec<_> = cgroup.ancestors().take_while(|above| above.starts_with(MOUNT)).collect();
    all.reverse();
    all
}

/// This process's cgroup, from the mount (cgroups(7), /proc/pid/cgroup: "0::PATH").
fn own_path(proc_cgroup: &str) -> Option<&Path> {
    let path = proc_cgroup.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(Path::new(path)).filter(|path| !path.components().any(|part| part.as_os_str() == ".."))
}

/// Whether this user may make cgroups in it and move processes between them.
fn is_delegated(cgroup: &Path) -> bool {
    let writable = |path: &Path| accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_ok();
    writable(cgroup)
        && writable(&cgroup.join("cgroup.procs"))
        && writable(&cgroup.join("cgroup.subtree_control"))
}

/// Hands the children of a cgroup what controllers there are; says which they have.
fn enable(cgroup: &Path) -> io::Result<Vec<String>> {
    let available = read_controllers(&cgroup.join("cgroup.controllers"))?;
    let control = cgroup.join("cgroup.subtree_control");
    let given = read_controllers(&control)?;
    let missing: Vec<_> = available.iter().filter(|name| !given.contains(name)).collect();
    for name in missing {
        // One that cannot be had (another hierarchy's, say) leaves the others.
        let _ = fs::write(&control, format!("+{name}"));
    }
    read_controllers(&control)
}

fn read_controllers(file: &Path) -> io::Result<Vec<String>> {
    let names = fs::read_to_string(file)?;
    Ok(names.split_whitespace().filter(|name| CONTROLLERS.contains(name)).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_the_hierarchy_stays_in_it() {
        let place = below_mount(Path::new("/kubepods/pod1")).unwrap();
        assert_eq!(place, Path::new("/sys/fs/cgroup/kubepods/pod1"));
        let above = ["/sys/fs/cgroup", "/sys/fs/cgroup/kubepods", "/sys/fs/cgroup/kubepods/pod1"];
        assert_eq!(from_the_top(&place), above.map(Path::new));
        assert!(below_mount(Path::new("/../proc")).is_err());
    }

    #[test]
    fn the_unified_hierarchys_line_is_found_among_others() {
        let hybrid = "12:cpu:/other\n0::/user.slice/user-1000.slice/user@1000.service/app.slice/app.scope\n";
        let expected = "user.slice/user-1000.slice/user@1000.service/app.slice/app.scope";
        assert_eq!(own_path(hybrid), Some(Path::new(expected)));
        assert_eq!(own_path("0::/\n"), Some(Path::new("")));
        assert_eq!(own_path("0::/../elsewhere\n"), None);
        assert_eq!(own_path("1:name=systemd:/\n"), None);
    }
}
