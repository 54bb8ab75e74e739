//! What a container uses, in runc's form: containerd's and Podman's clients read its fields by name.

use std::time::Duration;

use sandbox::GuestStats;
use serde_json::{Value, json};

/// Nanoseconds.
fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The `data` of an event of type `stats`. The guest counts; what it has no count of is left out or 0.
pub(crate) fn of(stats: &GuestStats) -> Value {
    let GuestStats { cpu, memory, pids, io, memory_total, .. } = stats;
    let entry = |op: &str, value: u64| json!({ "op": op, "value": value });
    json!({
        "cpu": {
            "usage": { "total": ns(cpu.usage), "kernel": ns(cpu.system), "user": ns(cpu.user) },
            "throttling": {
                "periods": cpu.periods,
                "throttledPeriods": cpu.throttled_periods,
                "throttledTime": ns(cpu.throttled),
            },
        },
        "memory": {
            "cache": memory.file,
            "usage": {
                "limit": memory.limit.unwrap_or(*memory_total),
                "usage": memory.current,
                "max": memory.peak,
                "failcnt": memory.oom_kills,
            },
            "raw": { "anon": memory.anon, "file": memory.file, "inactive_file": memory.inactive_file },
        },
        "pids": { "current": pids.current, "limit": pids.limit.unwrap_or_default() },
        "blkio": {
            "ioServiceBytesRecursive": [entry("read", io.read_bytes), entry("write", io.written_bytes)],
            "ioServicedRecursive": [entry("read", io.reads), entry("write", io.writes)],
        },
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": null,
    })
}
