//! What a container uses, as the metrics of a cgroup (v2), which is what containerd's clients know.

use std::time::Duration;

use containerd_shim_protos::cgroups_v2::metrics::{
    CPUStat, IOEntry, IOStat, MemoryEvents, MemoryStat, Metrics, PidsStat,
};
use protobuf::well_known_types::any::Any;
use protobuf::{Message, MessageField};
use sandbox::GuestStats;

const NAME: &str = "io.containerd.cgroups.v2.Metrics";

/// The guest's first virtio disk (Linux Documentation/admin-guide/devices.txt): its own numbers are nobody's here.
const DISK_MAJOR: u64 = 254;

/// As an answer carries them.
pub(crate) fn encode(stats: &GuestStats) -> protobuf::Result<Any> {
    let value = metrics(stats).write_to_bytes()?;
    Ok(Any { type_url: NAME.to_owned(), value, ..Default::default() })
}

fn metrics(stats: &GuestStats) -> Metrics {
    let GuestStats { cpu, memory, pids, io, memory_total, .. } = stats;
    Metrics {
        pids: MessageField::some(PidsStat {
            current: pids.current,
            limit: pids.limit.unwrap_or_default(),
            ..Default::default()
        }),
        cpu: MessageField::some(CPUStat {
            usage_usec: micros(cpu.usage),
            user_usec: micros(cpu.user),
            system_usec: micros(cpu.system),
            nr_periods: cpu.periods,
            nr_throttled: cpu.throttled_periods,
            throttled_usec: micros(cpu.throttled),
            ..Default::default()
        }),
        memory: MessageField::some(MemoryStat {
            usage: memory.current,
            usage_limit: memory.limit.unwrap_or(*memory_total),
            max_usage: memory.peak,
            anon: memory.anon,
            file: memory.file,
            inactive_file: memory.inactive_file,
            ..Default::default()
        }),
        memory_events: MessageField::some(MemoryEvents { oom_kill: memory.oom_kills, ..Default::default() }),
        io: MessageField::some(IOStat {
            usage: vec![IOEntry {
                major: DISK_MAJOR,
                rbytes: io.read_bytes,
                wbytes: io.written_bytes,
                rios: io.reads,
                wios: io.writes,
                ..Default::default()
            }],
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use sandbox::{CpuStats, MemoryStats, PidStats};

    use super::*;

    #[test]
    fn clients_find_what_they_show() {
        let stats = GuestStats {
            memory_total: 512 << 20,
            cpu: CpuStats { usage: Duration::from_millis(3), ..CpuStats::default() },
            memory: MemoryStats { current: 9, limit: None, oom_kills: 1, ..MemoryStats::default() },
            pids: PidStats { current: 2, limit: Some(7) },
            ..GuestStats::default()
        };
        let any = encode(&stats).unwrap();
        assert_eq!(any.type_url, "io.containerd.cgroups.v2.Metrics");
        let metrics = Metrics::parse_from_bytes(&any.value).unwrap();
        assert_eq!((metrics.cpu.usage_usec, metrics.pids.current, metrics.pids.limit), (3000, 2, 7));
        // Without a limit of its own, a container has the guest's memory.
        assert_eq!((metrics.memory.usage, metrics.memory.usage_limit), (9, 512 << 20));
        assert_eq!(metrics.memory_events.oom_kill, 1);
    }
}
