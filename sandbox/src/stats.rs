//! What a container and its guest use, and the processes it runs, as the guest's kernel counts them.

use std::time::{Duration, SystemTime};

use agent_api::agent;

use crate::guest_text;

/// What a guest says it uses. The host's side of the same sandbox is [`HostStats`](crate::HostStats).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GuestStats {
    /// When they were read, on a clock of the guest's that only goes forward: for rates between two readings.
    pub at: Duration,
    /// vCPUs of the guest.
    pub cpus: u32,
    /// Of the whole guest, in bytes.
    pub memory_total: u64,
    pub memory_available: u64,
    /// This and the rest: of the container.
    pub cpu: CpuStats,
    pub memory: MemoryStats,
    pub pids: PidStats,
    pub io: IoStats,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuStats {
    pub usage: Duration,
    pub user: Duration,
    pub system: Duration,
    /// Periods of its quota, and in how many of them it used that up.
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled: Duration,
}

/// In bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryStats {
    pub current: u64,
    pub peak: u64,
    /// `None`: all of the guest's.
    pub limit: Option<u64>,
    pub anon: u64,
    pub file: u64,
    pub inactive_file: u64,
    /// Processes killed for want of memory.
    pub oom_kills: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PidStats {
    pub current: u64,
    pub limit: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IoStats {
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub reads: u64,
    pub writes: u64,
}

/// The processes of a container, in the order of their pids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Processes {
    pub listed: Vec<ProcessInfo>,
    /// Whether there are more than are listed.
    pub more: bool,
}

/// One process, as `ps -ef` inside the container would show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessInfo {
    pub pid: u32,
    /// 0: not a process of the container.
    pub parent_pid: u32,
    pub uid: u32,
    /// Processor time used.
    pub cpu: Duration,
    pub started: SystemTime,
    /// "pts/0"; empty: none.
    pub terminal: String,
    /// With its arguments; "[name]" for a process without any.
    pub command: String,
}

impl MemoryStats {
    /// What Docker shows as a container's memory: without the cache that is given up first.
    pub fn used(&self) -> u64 {
        self.current.saturating_sub(self.inactive_file)
    }
}

impl ProcessInfo {
    /// Processor time per time lived until `now`, in percent (`ps`, column C).
    pub fn cpu_percent(&self, now: SystemTime) -> u64 {
        let lived = now.duration_since(self.started).unwrap_or_default().as_millis().max(1);
        u64::try_from(self.cpu.as_millis() * 100 / lived).unwrap_or(u64::MAX)
    }

    pub(crate) fn from_agent(process: agent::ProcessInfo) -> Self {
        let since_epoch = Duration::from_nanos(u64::try_from(process.started_at_ns).unwrap_or(0));
        Self {
            pid: process.pid,
            parent_pid: process.parent_pid,
            uid: process.uid,
            cpu: Duration::from_millis(process.cpu_ms),
            started: SystemTime::UNIX_EPOCH + since_epoch,
            terminal: guest_text::message(&process.terminal),
            command: guest_text::message(&process.command),
        }
    }
}

impl GuestStats {
    pub(crate) fn from_agent(stats: agent::StatsResponse) -> Self {
        let (cpu, memory) = (stats.cpu.unwrap_or_default(), stats.memory.unwrap_or_default());
        let (pids, io) = (stats.pids.unwrap_or_default(), stats.io.unwrap_or_default());
        Self {
            at: Duration::from_nanos(stats.at_ns),
            cpus: stats.cpus,
            memory_total: stats.memory_total,
            memory_available: stats.memory_available,
            cpu: CpuStats {
                usage: Duration::from_micros(cpu.usage_us),
                user: Duration::from_micros(cpu.user_us),
                system: Duration::from_micros(cpu.system_us),
                periods: cpu.periods,
                throttled_periods: cpu.throttled_periods,
                throttled: Duration::from_micros(cpu.throttled_us),
            },
            memory: MemoryStats {
                current: memory.current,
                peak: memory.peak,
                limit: memory.limit,
                anon: memory.anon,
                file: memory.file,
                inactive_file: memory.inactive_file,
                oom_kills: memory.oom_kills,
            },
            pids: PidStats { current: pids.current, limit: pids.limit },
            io: IoStats {
                read_bytes: io.read_bytes,
                written_bytes: io.written_bytes,
                reads: io.reads,
                writes: io.writes,
            },
        }
    }
}
