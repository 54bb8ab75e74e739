//! The cgroup a caller names for a container, by which it counts what that uses, and limits the whole of it.
//!
//! Who keeps the container, and what that starts unless it belongs elsewhere, is in a cgroup of its own below: one that hands
//! controllers down to others has no processes itself ("no internal process constraint", Linux
//! Documentation/admin-guide/cgroup-v2.rst).

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use shim::CGROUP_MOUNT;

/// What is at the mount of cgroup v2 if it is alone.
const UNIFIED: &str = "cgroup.controllers";

/// The cgroup of supervisors, in a container's.
const OWN: &str = "supervisor";

/// What is counted and limited, where the cgroups above have it to hand down.
const CONTROLLERS: [&str; 4] = ["+cpu", "+io", "+memory", "+pids"];

/// Puts this process below the cgroup, by its path from the top of the hierarchy, made if absent.
pub(crate) fn enter(cgroup: &Path) -> io::Result<()> {
    if !Path::new(CGROUP_MOUNT).join(UNIFIED).exists() {
        return Err(io::Error::other("this host has no cgroup v2 alone"));
    }
    let own = directory(cgroup).join(OWN);
    fs::create_dir_all(&own)?;
    hand_down(&own);
    let mut processes = OpenOptions::new().write(true).open(own.join("cgroup.procs"))?;
    processes.write_all(std::process::id().to_string().as_bytes())
}

/// Has the cgroups above hand down their controllers. Where one does not, its owner has decided so.
fn hand_down(cgroup: &Path) {
    let above: Vec<_> = cgroup.ancestors().skip(1).collect();
    for directory in above.into_iter().rev() {
        let control = directory.join("cgroup.subtree_control");
        if control.exists() {
            for controller in CONTROLLERS {
                let _ = fs::write(&control, controller);
            }
        }
    }
}

/// Removes the cgroup, which nobody is in any more; it may be gone already.
pub(crate) fn remove(cgroup: &Path) -> io::Result<()> {
    let directory = directory(cgroup);
    for directory in [directory.join(OWN), directory] {
        match fs::remove_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
    }
    Ok(())
}

fn directory(cgroup: &Path) -> PathBuf {
    Path::new(CGROUP_MOUNT).join(cgroup.strip_prefix("/").unwrap_or(cgroup))
}
