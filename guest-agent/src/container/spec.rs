//! Turns the supervisor's OCI runtime spec into the bundle libcontainer runs.

use std::path::{Path, PathBuf};

use libcontainer::oci_spec::runtime::{
    LinuxCapabilities, LinuxNamespace, LinuxNamespaceType, Mount, Process, RootBuilder, Spec,
};

use super::in_root::InRoot;
use super::user::{self as users, Identity, UserError};

#[derive(Debug, thiserror::Error)]
pub(super) enum SpecError {
    #[error("the spec is not an OCI runtime spec")]
    Malformed(#[from] serde_json::Error),
    #[error("the spec lacks {0}")]
    Lacks(&'static str),
    #[error("the working directory {0:?} is not absolute")]
    RelativeCwd(String),
    #[error("{0}")]
    Invalid(String),
}

/// What the agent adds to a spec.
pub(super) struct Additions<'a> {
    pub rootfs: &'a Path,
    /// Whether the root file system has a disk that takes writes.
    pub writable: bool,
    pub cgroup: &'a Path,
    pub mounts: Vec<Mount>,
    /// That of others, for the container to join.
    pub pid_namespace: Option<PathBuf>,
}

/// Reads a spec and checks what the agent relies on.
pub(super) fn parse(json: &[u8]) -> Result<Spec, SpecError> {
    let spec: Spec = serde_json::from_slice(json)?;
    check_process(spec.process().as_ref().ok_or(SpecError::Lacks("a process"))?)?;
    let linux = spec.linux().as_ref().ok_or(SpecError::Lacks("a linux section"))?;
    // Without one, libcontainer would mount into the agent's own namespace.
    let has_mount_namespace =
        linux.namespaces().iter().flatten().any(|namespace| namespace.typ() == LinuxNamespaceType::Mount);
    if !has_mount_namespace {
        return Err(SpecError::Lacks("a mount namespace"));
    }
    Ok(spec)
}

/// Reads the process of an exec and checks it likewise.
pub(super) fn parse_process(json: &[u8]) -> Result<Process, SpecError> {
    let process: Process = serde_json::from_slice(json)?;
    check_process(&process)?;
    Ok(process)
}

fn check_process(process: &Process) -> Result<(), SpecError> {
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return Err(SpecError::Lacks("a command"));
    }
    if !process.cwd().is_absolute() {
        return Err(SpecError::RelativeCwd(process.cwd().display().to_string()));
    }
    Ok(())
}

/// Completes a spec for this guest.
pub(super) fn complete(spec: &mut Spec, additions: Additions<'_>) -> Result<(), SpecError> {
    let read_only = spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false);
    let root = RootBuilder::default()
        .path(additions.rootfs)
        .readonly(read_only || !additions.writable)
        .build()
        .map_err(|error| SpecError::Invalid(error.to_string()))?;
    spec.set_root(Some(root));
    if let Some(linux) = spec.linux_mut() {
        linux.set_cgroups_path(Some(additions.cgroup.to_owned()));
        linux.set_seccomp(None);
        if let Some(resources) = linux.resources_mut() {
            // Devices of the host, and shares of its disks: the host's cgroup is what they are for.
            resources.set_block_io(None);
        }
        if let Some(path) = additions.pid_namespace {
            let mut namespaces = linux.namespaces().clone().unwrap_or_default();
            namespaces.retain(|namespace| namespace.typ() != LinuxNamespaceType::Pid);
            let mut joined = LinuxNamespace::default();
            joined.set_typ(LinuxNamespaceType::Pid).set_path(Some(path));
            namespaces.push(joined);
            linux.set_namespaces(Some(namespaces));
        }
    }
    if !has_own_name(spec) {
        // The guest's is the pod's, and has its name.
        spec.set_hostname(None);
        spec.set_domainname(None);
    }
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    mounts.extend(additions.mounts);
    spec.set_mounts(Some(mounts));
    // Hooks are programs of the host.
    spec.set_hooks(None);
    Ok(())
}

fn has_own_name(spec: &Spec) -> bool {
    let namespaces =
        spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    namespaces.iter().any(|namespace| namespace.typ() == LinuxNamespaceType::Uts)
}

/// Completes a process with the identity `user` names in its root, or, if that is empty, the ids it comes with.
pub(super) fn settle_user(
    root: &InRoot,
    user: &str,
    process: &mut Process,
    terminal: bool,
) -> Result<(), UserError> {
    if user.is_empty() {
        let home = users::home_of(root, process.user().uid())?;
        complete_process(process, None, &home, terminal);
    } else {
        let identity = users::look_up(root, user)?;
        complete_process(process, Some(&identity), &identity.home, terminal);
    }
    Ok(())
}

/// Those the process is to drop itself.
pub(super) fn take_capabilities(process: &mut Process) -> Option<LinuxCapabilities> {
    let capabilities = process.capabilities().clone();
    process.set_capabilities(None);
    capabilities
}

/// Completes a process: whom it runs as, where it is at home, whether it has a terminal.
fn complete_process(process: &mut Process, identity: Option<&Identity>, home: &str, terminal: bool) {
    if let Some(identity) = identity {
        let user = process.user_mut();
        user.set_uid(identity.uid);
        user.set_gid(identity.gid);
        user.set_additional_gids(Some(identity.additional_gids.clone()));
    }
    let env = process.env_mut().get_or_insert_default();
    if !env.iter().any(|variable| variable.starts_with("HOME=")) {
        env.push(format!("HOME={home}"));
    }
    process.set_terminal(Some(terminal));
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = r#"{
        "ociVersion": "1.2.0",
        "process": { "user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "/", "noNewPrivileges": false },
        "root": { "path": "ignored" },
        "hooks": { "prestart": [ { "path": "/bin/true" } ] },
        "linux": { "namespaces": [ { "type": "mount" } ] }
    }"#;

    fn completed(writable: bool) -> Spec {
        let mut spec = parse(SPEC.as_bytes()).unwrap();
        let (rootfs, cgroup) = (Path::new("/rootfs"), Path::new("/bulkhead/c"));
        complete(&mut spec, additions(rootfs, writable, cgroup)).unwrap();
        spec
    }

    fn additions<'a>(rootfs: &'a Path, writable: bool, cgroup: &'a Path) -> Additions<'a> {
        Additions { rootfs, writable, cgroup, mounts: Vec::new(), pid_namespace: None }
    }

    #[test]
    fn the_guest_decides_root_cgroup_and_hooks() {
        let spec = completed(true);
        assert_eq!(spec.root().as_ref().unwrap().path(), Path::new("/rootfs"));
        assert_eq!(spec.root().as_ref().unwrap().readonly(), Some(false));
        assert_eq!(spec.linux().as_ref().unwrap().cgroups_path().as_deref(), Some(Path::new("/bulkhead/c")));
        assert!(spec.hooks().is_none());
    }

    #[test]
    fn a_container_without_a_name_of_its_own_does_not_set_one() {
        let complete = |json: String| {
            let mut spec = parse(json.as_bytes()).unwrap();
            let (rootfs, cgroup) = (Path::new("/rootfs"), Path::new("/bulkhead/c"));
            complete(&mut spec, additions(rootfs, true, cgroup)).unwrap();
            spec.hostname().clone()
        };
        let named = SPEC.replacen('{', r#"{ "hostname": "web","#, 1);
        assert_eq!(complete(named.clone()), None);
        let uts = r#"{ "type": "mount" }, { "type": "uts" }"#;
        assert_eq!(complete(named.replace(r#"{ "type": "mount" }"#, uts)).as_deref(), Some("web"));
    }

    #[test]
    fn a_shared_pid_namespace_takes_the_place_of_its_own() {
        let pid = r#"{ "type": "mount" }, { "type": "pid" }"#;
        let mut spec = parse(SPEC.replace(r#"{ "type": "mount" }"#, pid).as_bytes()).unwrap();
        let shared = PathBuf::from("/proc/1/fd/9");
        let (rootfs, cgroup) = (Path::new("/rootfs"), Path::new("/bulkhead/c"));
        let additions = Additions { pid_namespace: Some(shared.clone()), ..additions(rootfs, true, cgroup) };
        complete(&mut spec, additions).unwrap();
        let namespaces = spec.linux().as_ref().unwrap().namespaces().clone().unwrap();
        let of = |typ| namespaces.iter().filter(move |one| one.typ() == typ).map(LinuxNamespace::path);
        assert_eq!(of(LinuxNamespaceType::Pid).collect::<Vec<_>>(), [&Some(shared)]);
        assert_eq!(of(LinuxNamespaceType::Mount).count(), 1);
    }

    #[test]
    fn a_root_without_a_writable_disk_is_read_only() {
        assert_eq!(completed(false).root().as_ref().unwrap().readonly(), Some(true));
    }

    #[test]
    fn a_process_gets_its_identity_and_keeps_a_home_it_has() {
        let mut process = parse(SPEC.as_bytes()).unwrap().process().clone().unwrap();
        let identity = Identity { uid: 1, gid: 2, additional_gids: vec![2, 3], home: String::new() };
        complete_process(&mut process, Some(&identity), "/home/a", true);
        complete_process(&mut process, None, "/home/b", true);
        assert_eq!((process.user().uid(), process.user().gid()), (1, 2));
        assert_eq!(process.env().as_deref(), Some(&["HOME=/home/a".to_owned()][..]));
        assert_eq!(process.terminal(), Some(true));
    }

    #[test]
    fn specs_that_cannot_be_run_are_refused() {
        assert!(matches!(parse(b"{"), Err(SpecError::Malformed(_))));
        assert!(matches!(parse(SPEC.replace("mount", "pid").as_bytes()), Err(SpecError::Lacks(_))));
        assert!(matches!(parse(SPEC.replace("[\"sh\"]", "[]").as_bytes()), Err(SpecError::Lacks(_))));
        assert!(matches!(parse(SPEC.replace("\"/\"", "\"tmp\"").as_bytes()), Err(SpecError::RelativeCwd(_))));
    }
}
