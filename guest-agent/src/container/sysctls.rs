//! Kernel parameters that a container's spec asks for in namespaces it shares with the guest: those of its pod, which no other
//! pod has. libcontainer sets those of namespaces of the container's own.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use libcontainer::oci_spec::runtime::{LinuxNamespaceType, Spec};

const PARAMETERS: &str = "/proc/sys";

/// Parameters of IPC namespaces (ipc_namespaces(7)); with those of POSIX message queues.
const OF_IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

#[derive(Debug, thiserror::Error)]
pub(super) enum SysctlError {
    #[error("{0:?} is no kernel parameter's name")]
    Name(String),
    #[error("cannot set the kernel parameter {name}")]
    Set { name: String, source: io::Error },
}

/// Takes out of the spec what is to be set in the guest.
pub(super) fn take(spec: &mut Spec) -> HashMap<String, String> {
    let Some(linux) = spec.linux_mut() else { return HashMap::new() };
    let namespaces = linux.namespaces().clone().unwrap_or_default();
    let has = |kind| namespaces.iter().any(|namespace| namespace.typ() == kind);
    let (own_ipc, own_network) = (has(LinuxNamespaceType::Ipc), has(LinuxNamespaceType::Network));
    let is_shared = |name: &str| {
        let path = path_of(name);
        let is_of_ipc = OF_IPC.contains(&path.as_str()) || path.starts_with("fs/mqueue/");
        (is_of_ipc && !own_ipc) || (path.starts_with("net/") && !own_network)
    };
    let (shared, own) =
        linux.sysctl().clone().unwrap_or_default().into_iter().partition(|(name, _)| is_shared(name));
    linux.set_sysctl(Some(own));
    shared
}

/// Sets them in the guest.
pub(super) fn set(parameters: &HashMap<String, String>) -> Result<(), SysctlError> {
    for (name, value) in parameters {
        let file = file(name)?;
        fs::write(file, value).map_err(|source| SysctlError::Set { name: name.clone(), source })?;
    }
    Ok(())
}

fn file(name: &str) -> Result<PathBuf, SysctlError> {
    let path = path_of(name);
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(SysctlError::Name(name.to_owned()));
    }
    Ok(Path::new(PARAMETERS).join(path))
}

/// The separator that comes first is the separator (sysctl.d(5)): the other one is a part of an interface's name.
fn path_of(name: &str) -> String {
    let exchanged = |c| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    match name.find(['.', '/']).and_then(|at| name.get(at..=at)) {
        Some(".") => name.chars().map(exchanged).collect(),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(namespaces: &str) -> Spec {
        let json = format!(
            r#"{{"ociVersion": "1.2.0", "linux": {{"namespaces": [{namespaces}], "sysctl": {{
                "net.ipv4.ip_unprivileged_port_start": "0", "kernel.shmmax": "1", "kernel.domainname": "x"
            }}}}}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    fn names<'a>(parameters: impl IntoIterator<Item = &'a String>) -> Vec<&'a str> {
        let mut names: Vec<_> = parameters.into_iter().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn parameters_of_shared_namespaces_are_the_guests_to_set() {
        let mut shared = spec("");
        assert_eq!(names(take(&mut shared).keys()), ["kernel.shmmax", "net.ipv4.ip_unprivileged_port_start"]);
        let left = shared.linux().as_ref().unwrap().sysctl().clone().unwrap();
        assert_eq!(names(left.keys()), ["kernel.domainname"]);
        let mut own = spec(r#"{"type": "network"}, {"type": "ipc"}"#);
        assert!(take(&mut own).is_empty());
    }

    #[test]
    fn names_are_paths_below_the_kernels_parameters() {
        let path = |name| file(name).map(|path| path.display().to_string()).ok();
        assert_eq!(
            path("net.ipv4.conf.eth0/7.forwarding").unwrap(),
            "/proc/sys/net/ipv4/conf/eth0.7/forwarding"
        );
        assert_eq!(
            path("net/ipv4/conf/eth0.7/forwarding").unwrap(),
            "/proc/sys/net/ipv4/conf/eth0.7/forwarding"
        );
        assert_eq!(path("net/../../etc"), None);
        assert_eq!(path("net..x"), None);
    }
}
