//! Mounts: the kernel's own file systems are the guest's; files and directories of the host are shared with it.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};
use rustix::fs::statvfs;

use super::{Refusal, namespaces};
use crate::bundle::Bundle;

/// File systems that have no source outside the kernel that mounts them.
const OF_THE_KERNEL: [&str; 10] =
    ["proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "ramfs", "tracefs", "debugfs"];

/// A guest's own view of its kernel.
const SYSFS: &str = "/sys";

/// Memory shared among processes, which no other machine has a part in.
const SHARED_MEMORY: &str = "/dev/shm";

/// A mount whose source is a path of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bind {
    /// Among the spec's mounts.
    pub(crate) index: usize,
    pub(crate) source: PathBuf,
    pub(crate) read_only: bool,
    pub(crate) recursive: bool,
}

/// Makes of a spec's mounts what the guest can do; gives those that need files of the host.
pub(super) fn settle(spec: &mut Spec, bundle: &Bundle, in_pod: bool) -> Result<Vec<Bind>, Refusal> {
    let mut binds = Vec::new();
    let in_user_namespace =
        spec.linux().as_ref().is_some_and(|linux| namespaces::has(linux, LinuxNamespaceType::User));
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    for (index, mount) in mounts.iter_mut().enumerate() {
        let options = mount.options().clone().unwrap_or_default();
        let has = |wanted: &str| options.iter().any(|option| option == wanted);
        let is_bind = mount.typ().as_deref() == Some("bind") || has("bind") || has("rbind");
        let destination = mount.destination().clone();
        if !is_bind {
            let kind = mount.typ().clone().unwrap_or_default();
            if !OF_THE_KERNEL.contains(&kind.as_str()) {
                return Err(Refusal::MountKind { destination, kind });
            }
            if kind == "sysfs" && in_user_namespace {
                show_sysfs(mount, &options);
            }
            continue;
        }
        let source = bundle.path.join(mount.source().clone().unwrap_or_default());
        if destination == Path::new(SHARED_MEMORY) {
            share_memory(mount, &source, in_pod);
            continue;
        }
        check_source(&destination, &source)?;
        mount.set_typ(Some("bind".to_owned()));
        binds.push(Bind { index, source, read_only: has("ro"), recursive: has("rbind") });
    }
    spec.set_mounts(Some(mounts));
    Ok(binds)
}

/// One of its own is for a user namespace that has a network namespace (Linux fs/sysfs/mount.c), and the guest has one
/// network. All that is mounted below comes with it, or nothing would (mount_namespaces(7)).
fn show_sysfs(mount: &mut Mount, options: &[String]) {
    let shown = options.iter().map(|option| if option == "ro" { "rro" } else { option }.to_owned());
    mount.set_options(Some(["rbind".to_owned()].into_iter().chain(shown).collect()));
    mount.set_typ(Some("bind".to_owned()));
    mount.set_source(Some(SYSFS.into()));
}

/// What is mounted there on the host is only looked at for its size.
fn share_memory(mount: &mut Mount, source: &Path, in_pod: bool) {
    if in_pod {
        // The guest's own, for all of the pod.
        mount.set_source(Some(SHARED_MEMORY.into()));
        mount.set_typ(Some("bind".to_owned()));
        mount.set_options(Some(vec!["rbind".to_owned()]));
        return;
    }
    let bytes = statvfs(source).map_or(64 << 20, |stat| stat.f_blocks.saturating_mul(stat.f_frsize));
    let options = ["nosuid", "noexec", "nodev", "mode=1777"].map(str::to_owned);
    mount.set_typ(Some("tmpfs".to_owned()));
    mount.set_source(Some("shm".into()));
    mount.set_options(Some(options.into_iter().chain([format!("size={bytes}")]).collect()));
}

/// Only files and directories have contents that can travel.
fn check_source(destination: &Path, source: &Path) -> Result<(), Refusal> {
    let kind = fs::metadata(source).map_err(|error| Refusal::NoMountSource {
        destination: destination.to_owned(),
        source_path: source.to_owned(),
        source: error,
    })?;
    let kind = kind.file_type();
    let what = if kind.is_socket() {
        "a socket"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        return Ok(());
    };
    let (destination, source_path) = (destination.to_owned(), source.to_owned());
    Err(Refusal::MountSource { destination, source_path, what })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn settled(mounts: &str, directory: &Path, in_pod: bool) -> Result<(Vec<Bind>, Vec<Mount>), Refusal> {
        let mut spec: Spec =
            serde_json::from_str(&format!(r#"{{"ociVersion":"1.2.0","mounts":[{mounts}]}}"#)).unwrap();
        let bundle = Bundle { path: directory.to_owned(), spec: spec.clone() };
        let binds = settle(&mut spec, &bundle, in_pod)?;
        Ok((binds, spec.mounts().clone().unwrap()))
    }

    #[test]
    fn files_of_the_host_are_shared_and_the_kernels_are_not() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("hosts"), "").unwrap();
        let mounts = r#"{"destination":"/proc","type":"proc","source":"proc"},
            {"destination":"/etc/hosts","source":"hosts","options":["rbind","ro"]}"#;
        let (binds, _) = settled(mounts, directory.path(), false).unwrap();
        let source = directory.path().join("hosts");
        assert_eq!(binds, [Bind { index: 1, source, read_only: true, recursive: true }]);
    }

    #[test]
    fn a_user_namespace_is_shown_the_guests_sysfs() {
        let sysfs = r#"{"destination":"/sys","type":"sysfs","source":"sysfs","options":["nosuid","ro"]}"#;
        let kind_and_options = |namespaces: &str| {
            let spec = format!(
                r#"{{"ociVersion":"1.2.0","mounts":[{sysfs}],"linux":{{"namespaces":[{namespaces}]}}}}"#
            );
            let mut spec: Spec = serde_json::from_str(&spec).unwrap();
            let bundle = Bundle { path: "/".into(), spec: spec.clone() };
            assert_eq!(settle(&mut spec, &bundle, false).unwrap(), []);
            let mount = spec.mounts().iter().flatten().next().unwrap().clone();
            (mount.typ().clone().unwrap(), mount.options().clone().unwrap())
        };
        let of = |kind: &str, options: &[&str]| {
            (kind.to_owned(), options.iter().map(|&option| option.to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(kind_and_options(r#"{"type":"pid"}"#), of("sysfs", &["nosuid", "ro"]));
        assert_eq!(kind_and_options(r#"{"type":"user"}"#), of("bind", &["rbind", "nosuid", "rro"]));
    }

    #[test]
    fn what_cannot_travel_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let _socket = UnixListener::bind(directory.path().join("socket")).unwrap();
        let refused = |mount: &str| settled(mount, directory.path(), false).unwrap_err().to_string();
        let bind =
            |source: &str| refused(&format!(r#"{{"destination":"/x","type":"bind","source":"{source}"}}"#));
        assert!(bind("socket").contains("is a socket"));
        assert!(bind("/dev/null").contains("is a device"));
        assert!(bind("nothing").contains("nothing"));
        let unknown = refused(r#"{"destination":"/x","type":"nfs","source":"a:/b"}"#);
        assert!(unknown.contains("\"nfs\""), "{unknown}");
    }

    #[test]
    fn shared_memory_is_the_guests() {
        let shm = r#"{"destination":"/dev/shm","type":"bind","source":"/dev/shm","options":["rbind"]}"#;
        let (binds, mounts) = settled(shm, Path::new("/"), false).unwrap();
        assert!(binds.is_empty());
        assert_eq!(mounts.first().unwrap().typ().as_deref(), Some("tmpfs"));
        let (_, mounts) = settled(shm, Path::new("/"), true).unwrap();
        assert_eq!(mounts.first().unwrap().source().as_deref(), Some(Path::new(SHARED_MEMORY)));
    }
}
