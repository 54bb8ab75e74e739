//! `bulkhead-oci spec`.

use std::fs::OpenOptions;
use std::io::{self, Write};

use serde_json::{Value, json};

use crate::args::{SPEC_VERSION, SpecArgs};

const CONFIG: &str = "config.json";

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("File {CONFIG} exists. Remove it first")]
    Exists,
    #[error("cannot write {CONFIG}")]
    Write(#[source] io::Error),
    #[error("cannot encode the configuration")]
    Encode(#[from] serde_json::Error),
}

pub(super) fn spec(args: &SpecArgs) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(&configuration(args.rootless))?;
    let file = OpenOptions::new().write(true).create_new(true).open(args.bundle.join(CONFIG));
    let written = file.and_then(|mut file| writeln!(file, "{text}"));
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Error::Exists,
        _ => Error::Write(error),
    })
}

/// A shell at a terminal, with few privileges. A guest is the same whoever starts it: a user who is not root only has no
/// mappings of ids to ask for, and none are.
fn configuration(rootless: bool) -> Value {
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({ "type": kind }));
    let mut configuration = json!({
        "ociVersion": SPEC_VERSION,
        "process": {
            "terminal": true,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "bulkhead",
        "mounts": mounts(),
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": namespaces,
            "maskedPaths": [
                "/proc/acpi",
                "/proc/asound",
                "/proc/kcore",
                "/proc/keys",
                "/proc/latency_stats",
                "/proc/timer_list",
                "/proc/timer_stats",
                "/proc/sched_debug",
                "/sys/firmware",
                "/proc/scsi",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    });
    if rootless && let Some(linux) = configuration.get_mut("linux").and_then(Value::as_object_mut) {
        linux.remove("resources");
    }
    configuration
}

fn mounts() -> Value {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": source, "options": options });
    json!([
        mount("/proc", "proc", "proc", &[]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
        ),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ])
}

#[cfg(test)]
mod tests {
    use shim::Bundle;

    use super::*;

    #[test]
    fn what_is_written_is_a_bundles_and_written_once() {
        for rootless in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let args = SpecArgs { bundle: directory.path().to_owned(), rootless };
            spec(&args).unwrap();
            let bundle = Bundle::load(directory.path()).unwrap();
            assert_eq!(bundle.spec.version(), SPEC_VERSION);
            assert_eq!(spec(&args).unwrap_err().to_string(), "File config.json exists. Remove it first");
        }
    }
}
