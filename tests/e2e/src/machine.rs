//! What is on the machine that a sandbox could have left there.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::shell::output;

const PROCESSES: &str = "processes";
const CGROUPS: &str = "cgroups";
const RECORDS: &str = "records";
const SOCKETS: &str = "shims' sockets";
const NAMESPACES: &str = "network namespaces";
const BUNDLES: &str = "bundles";

/// Longer than a process takes to be gone that has nothing more to do.
const LIMIT: Duration = Duration::from_secs(60);

/// Each line names one thing; those that come and go by themselves are left out.
const LOOKS: [(&str, &str); 13] = [
    // Of a longer name, the kernel keeps as much as this: containerd-shim-bulkhead-v2.
    (PROCESSES, "ps -eo comm= | grep -e ^bulkhead -e ^containerd-shim | sort || true"),
    (SOCKETS, "ls -A /run/containerd/s 2>/dev/null || true"),
    (BUNDLES, "ls -d /run/containerd/io.containerd.runtime.v2.task/*/* 2>/dev/null || true"),
    (
        NAMESPACES,
        "{ ls -A /run/netns; find /proc/[0-9]*/ns/net -printf '%l\\n' | sort -u; } 2>/dev/null || true",
    ),
    ("mounts", "awk '{ print $5 }' /proc/self/mountinfo | sort"),
    (CGROUPS, "find /sys/fs/cgroup -type d | sort"),
    ("network interfaces", "ls /sys/class/net"),
    (
        RECORDS,
        "ls -A /run/bulkhead 2>/dev/null | grep -v -e ^events -e '^[.]templates' -e '^[.]copies' -e '^[.]seccomp' || true",
    ),
    ("templates in the making", "ls -A /run/bulkhead/.templates 2>/dev/null | grep ^[.]making || true"),
    ("filters in the making", "ls -A /run/bulkhead/.seccomp 2>/dev/null | grep ^[.] || true"),
    ("copies", "ls -A /run/bulkhead/.copies 2>/dev/null || true"),
    ("containers", "ls -A /var/lib/bulkhead/containers 2>/dev/null || true"),
    ("disks", "ls -A /var/lib/bulkhead/scratch 2>/dev/null || true"),
];

/// What is left of a sandbox for a moment: a supervisor tells of its container's end before the VM is given back, and one
/// that was killed is there until it is reaped.
const PASSING: [&str; 6] = [PROCESSES, CGROUPS, RECORDS, SOCKETS, BUNDLES, NAMESPACES];

/// Looks for sandboxes that end.
const ENDING: &str = "grep -ls '\"state\":\"ending\"' /run/bulkhead/*/record.json || true";

/// Between two looks at what passes.
const PAUSE: Duration = Duration::from_millis(100);

/// The machine at one moment.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<&'static str, String>);

/// The machine with nothing on it that passes by itself.
pub fn snapshot() -> Snapshot {
    let deadline = Instant::now() + LIMIT;
    loop {
        let before = look();
        sleep(PAUSE);
        let now = look();
        if now == before && output(ENDING).is_empty() {
            return now;
        }
        assert!(Instant::now() < deadline, "it does not come to rest");
    }
}

fn look() -> Snapshot {
    Snapshot(LOOKS.map(|(name, look)| (name, output(look))).into())
}

/// The machine must be as it was, but for what passes by itself.
pub fn assert_unchanged(before: &Snapshot, what: &str) {
    assert_eq!(settled(before), *before, "{what}");
}

/// What differs from before, when all has passed that does by itself: each kind of thing, as it was and as it is.
pub fn left_since(before: &Snapshot) -> Vec<String> {
    let now = settled(before);
    let differing = before.0.iter().filter(|(kind, was)| now.0.get(*kind) != Some(was));
    differing.map(|(kind, was)| format!("{kind}: {was:?} became {:?}", now.0.get(kind))).collect()
}

fn settled(before: &Snapshot) -> Snapshot {
    let deadline = Instant::now() + LIMIT;
    let mut now = look();
    while now.is_passing(before) && Instant::now() < deadline {
        sleep(PAUSE);
        now = look();
    }
    now
}

impl Snapshot {
    /// Whether it differs from that one, and only in what passes.
    fn is_passing(&self, before: &Self) -> bool {
        let mut differing = self.0.keys().filter(|name| self.0.get(*name) != before.0.get(*name)).peekable();
        differing.peek().is_some() && differing.all(|name| PASSING.contains(name))
    }
}

/// KiB of memory that is nobody's, when all that is waiting to be freed is.
pub fn free_memory() -> u64 {
    let free = output("sync; echo 3 > /proc/sys/vm/drop_caches; awk '/^MemFree/ { print $2 }' /proc/meminfo");
    free.parse().expect("a number")
}

/// What `bulkhead ps` says of a running container.
pub fn listed(name: &str) -> serde_json::Value {
    let line = output(&format!("bulkhead ps --no-trunc --format json --filter name={name}"));
    serde_json::from_str(&line).unwrap_or_else(|_| panic!("{name} is not listed, but {line:?}"))
}
