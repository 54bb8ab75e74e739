//! What a container uses, out of its cgroup's files (Linux Documentation/admin-guide/cgroup-v2.rst), and its guest
//! as a whole.

use std::collections::HashMap;
use std::fs;

use agent_api::agent::{CpuStats, IoStats, MemoryEvents, MemoryStats, PidStats, StatsResponse};
use rustix::time::{ClockId, clock_gettime};

use super::cgroup::{Cgroup, CgroupError, value};

/// More than any kernel has in a file.
const MAX_KEYS: usize = 256;

/// Reads all of it. A controller the kernel lacks has used nothing.
pub(super) fn read(cgroup: &Cgroup) -> Result<StatsResponse, CgroupError> {
    // There as long as the cgroup is.
    let cpu = cgroup.read("cpu.stat")?;
    let optional = |file: &str| cgroup.read(file).unwrap_or_default();
    let since_boot = clock_gettime(ClockId::Boottime);
    let memory_info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    Ok(StatsResponse {
        at_ns: since_boot.tv_sec.cast_unsigned() * 1_000_000_000 + since_boot.tv_nsec.cast_unsigned(),
        cpus: std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(1)),
        memory_total: kilobytes(&memory_info, "MemTotal:"),
        memory_available: kilobytes(&memory_info, "MemAvailable:"),
        cpu: Some(cpu_stats(&cpu)).into(),
        memory: Some(memory_stats(cgroup)).into(),
        pids: Some(PidStats {
            current: number(&optional("pids.current")).unwrap_or(0),
            limit: number(&optional("pids.max")),
            ..Default::default()
        })
        .into(),
        io: Some(io_stats(&optional("io.stat"))).into(),
        memory_stat: flat_keyed(&optional("memory.stat")),
        ..Default::default()
    })
}

fn cpu_stats(stat: &str) -> CpuStats {
    let get = |key: &str| value(stat, key).unwrap_or(0);
    CpuStats {
        usage_us: get("usage_usec"),
        user_us: get("user_usec"),
        system_us: get("system_usec"),
        periods: get("nr_periods"),
        throttled_periods: get("nr_throttled"),
        throttled_us: get("throttled_usec"),
        ..Default::default()
    }
}

fn memory_stats(cgroup: &Cgroup) -> MemoryStats {
    let optional = |file: &str| cgroup.read(file).unwrap_or_default();
    let stat = optional("memory.stat");
    let get = |key: &str| value(&stat, key).unwrap_or(0);
    MemoryStats {
        current: number(&optional("memory.current")).unwrap_or(0),
        peak: number(&optional("memory.peak")).unwrap_or(0),
        limit: number(&optional("memory.max")),
        anon: get("anon"),
        file: get("file"),
        inactive_file: get("inactive_file"),
        oom_kills: cgroup.memory_kills(),
        events: Some(memory_events(&optional("memory.events"))).into(),
        swap_current: number(&optional("memory.swap.current")).unwrap_or(0),
        swap_limit: number(&optional("memory.swap.max")),
        ..Default::default()
    }
}

fn memory_events(events: &str) -> MemoryEvents {
    let get = |key: &str| value(events, key).unwrap_or(0);
    MemoryEvents {
        low: get("low"),
        high: get("high"),
        max: get("max"),
        oom: get("oom"),
        oom_kill: get("oom_kill"),
        ..Default::default()
    }
}

/// All of a flat keyed file.
fn flat_keyed(text: &str) -> HashMap<String, u64> {
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    let numbers = pairs.filter_map(|(key, value)| Some((key.to_owned(), value.trim().parse().ok()?)));
    numbers.take(MAX_KEYS).collect()
}

/// The sum over all devices of a nested keyed file.
fn io_stats(stat: &str) -> IoStats {
    let sum = |key: &str| {
        let values = stat.split_whitespace().filter_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        values.filter_map(|value| value.parse::<u64>().ok()).fold(0, u64::saturating_add)
    };
    IoStats {
        read_bytes: sum("rbytes"),
        written_bytes: sum("wbytes"),
        reads: sum("rios"),
        writes: sum("wios"),
        ..Default::default()
    }
}

/// A single value; `None` for "max".
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// A line of /proc/meminfo, in bytes.
fn kilobytes(memory_info: &str, key: &str) -> u64 {
    let line = memory_info.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    number.unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_kernels_files_are_read_as_it_writes_them() {
        let cpu = cpu_stats(
            "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnice_usec 0\nnr_periods 4\n\
             nr_throttled 2\nthrottled_usec 7\n",
        );
        assert_eq!((cpu.usage_us, cpu.user_us, cpu.system_us), (30, 20, 10));
        assert_eq!((cpu.periods, cpu.throttled_periods, cpu.throttled_us), (4, 2, 7));
        let io =
            io_stats("254:0 rbytes=4096 wbytes=1 rios=2 wios=3 dbytes=0 dios=0\n254:16 rbytes=1 wbytes=2\n");
        assert_eq!((io.read_bytes, io.written_bytes, io.reads, io.writes), (4097, 3, 2, 3));
        let events = memory_events("low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 6\n");
        assert_eq!((events.low, events.high, events.max, events.oom, events.oom_kill), (1, 2, 3, 4, 5));
        let stat = flat_keyed("anon 4096\nfile 0\nodd\n");
        assert_eq!((stat.len(), stat["anon"], stat["file"]), (2, 4096, 0));
        assert_eq!((number("max\n"), number("512\n")), (None, Some(512)));
        let info = "MemTotal:         251404 kB\nMemFree: 1 kB\nMemAvailable:     100 kB\n";
        assert_eq!(kilobytes(info, "MemTotal:"), 251_404 * 1024);
        assert_eq!(kilobytes(info, "MemAvailable:"), 102_400);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "(?s).{0,200}", numbers in prop::collection::vec(any::<u64>(), 2)) {
            let largest = format!("1:1 rbytes={} 1:2 rbytes={}", numbers[0], numbers[1]);
            prop_assert_eq!(io_stats(&largest).read_bytes, numbers[0].saturating_add(numbers[1]));
            cpu_stats(&text);
            io_stats(&text);
            flat_keyed(&text);
            kilobytes(&text, "");
        }
    }
}
