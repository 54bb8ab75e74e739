//! The cgroup a caller names for a container: who keeps the container is in it, and so is what that starts, unless it
//! belongs elsewhere. By it the caller counts what the container uses, and limits the whole of it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Is there where cgroup v2 is mounted alone.
const UNIFIED: &str = "/sys/fs/cgroup/cgroup.controllers";

/// What is counted and limited in it, where the cgroups above have it to hand down.
const CONTROLLERS: [&str; 4] = ["+cpu", "+io", "+memory", "+pids"];

/// Puts this process into the cgroup, made if absent. Without cgroups of version 2 alone there is none to enter.
pub(crate) fn enter(cgroup: &Path) -> io::Result<()> {
    if !Path::new(UNIFIED).exists() {
        return Err(io::Error::other("this host has no cgroup v2 alone"));
    }
    fs::create_dir_all(cgroup)?;
    hand_down(cgroup);
    let mut processes = OpenOptions::new().write(true).open(cgroup.join("cgroup.procs"))?;
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
    match fs::remove_dir(cgroup) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
