//! Turns the supervisor's OCI runtime spec into the bundle libcontainer runs.

use std::path::Path;

use libcontainer::oci_spec::OciSpecError;
use libcontainer::oci_spec::runtime::{
    LinuxNamespaceType, LinuxSeccomp, LinuxSeccompArgBuilder, LinuxSeccompOperator, Mount, Process,
    RootBuilder, Spec,
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
        if let Some(resources) = linux.resources_mut() {
            // Devices of the host, and shares of its disks: the host's cgroup is what they are for.
            resources.set_block_io(None);
        }
        if let Some(seccomp) = linux.seccomp() {
            linux.set_seccomp(Some(with_masks_where_libcontainer_looks(seccomp)?));
        }
    }
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    mounts.extend(additions.mounts);
    spec.set_mounts(Some(mounts));
    // Hooks are programs of the host.
    spec.set_hooks(None);
    Ok(())
}

/// Of SCMP_CMP_MASKED_EQ, libcontainer 0.7 takes `value` for what to compare with and `valueTwo` for the mask;
/// profiles are written for runc, which follows libseccomp's SCMP_A macros: the mask comes first.
fn with_masks_where_libcontainer_looks(seccomp: &LinuxSeccomp) -> Result<LinuxSeccomp, SpecError> {
    let invalid = |error: OciSpecError| SpecError::Invalid(error.to_string());
    let mut calls = seccomp.syscalls().clone().unwrap_or_default();
    for call in &mut calls {
        let Some(conditions) = call.args() else { continue };
        let turned = conditions.iter().map(|condition| match condition.op() {
            LinuxSeccompOperator::ScmpCmpMaskedEq => LinuxSeccompArgBuilder::default()
                .index(condition.index())
                .value(condition.value_two().unwrap_or_default())
                .value_two(condition.value())
                .op(condition.op())
                .build(),
            _ => Ok(*condition),
        });
        let turned = turned.collect::<Result<Vec<_>, _>>().map_err(invalid)?;
        call.set_args(Some(turned));
    }
    let mut seccomp = seccomp.clone();
    seccomp.set_syscalls(Some(calls));
    Ok(seccomp)
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
    // libcontainer 0.7 takes "false" for "true" when it chooses when to load the seccomp profile: after the
    // capabilities to do so are gone.
    if process.no_new_privileges() == Some(false) {
        process.set_no_new_privileges(None);
    }
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
        complete(&mut spec, Additions { rootfs, writable, cgroup, mounts: Vec::new() }).unwrap();
        spec
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
    fn a_mask_is_where_libcontainer_looks_for_it() {
        let profile = r#"{ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [ { "names": ["clone"],
            "action": "SCMP_ACT_ALLOW", "args": [
                { "index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" },
                { "index": 1, "value": 5, "op": "SCMP_CMP_EQ" } ] } ] }"#;
        let turned = with_masks_where_libcontainer_looks(&serde_json::from_str(profile).unwrap()).unwrap();
        let calls = turned.syscalls().as_ref().unwrap();
        let conditions = calls.first().unwrap().args().as_ref().unwrap();
        let values: Vec<_> = conditions.iter().map(|c| (c.value(), c.value_two())).collect();
        assert_eq!(values, [(0, Some(2_114_060_288)), (5, None)]);
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
        assert_eq!(process.no_new_privileges(), None);
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
