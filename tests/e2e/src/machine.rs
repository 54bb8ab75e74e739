//! What is on the machine that a sandbox could have left there.

use std::collections::BTreeMap;

use crate::shell::output;

/// Each line names one thing; those that come and go by themselves are left out.
const LOOKS: [(&str, &str); 6] = [
    ("processes", "ps -eo comm= | grep ^bulkhead | sort || true"),
    ("mounts", "awk '{ print $5 }' /proc/self/mountinfo | sort"),
    ("cgroups", "find /sys/fs/cgroup -type d | sort"),
    ("network interfaces", "ls /sys/class/net"),
    ("records", "ls -A /run/bulkhead 2>/dev/null || true"),
    ("disks", "ls -A /var/lib/bulkhead/scratch 2>/dev/null || true"),
];

/// The machine at one moment.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<&'static str, String>);

pub fn snapshot() -> Snapshot {
    Snapshot(LOOKS.map(|(name, look)| (name, output(look))).into())
}

/// KiB of memory that is nobody's, when all that is waiting to be freed is.
pub fn free_memory() -> u64 {
    let free = output("sync; echo 3 > /proc/sys/vm/drop_caches; awk '/^MemFree/ { print $2 }' /proc/meminfo");
    free.parse().expect("a number")
}

/// What `bulkhead ps` says of a sandbox.
pub fn listed(name: &str) -> serde_json::Value {
    let all: serde_json::Value = serde_json::from_str(&output("bulkhead ps --format json")).expect("JSON");
    let all = all.as_array().expect("an array").iter();
    all.clone()
        .find(|sandbox| sandbox["name"] == name)
        .unwrap_or_else(|| panic!("no {name} among {all:?}"))
        .clone()
}
