//! The processes of a container, out of /proc (proc(5)), with the pids they have in the container.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::time::{SystemTime, UNIX_EPOCH};

use agent_api::agent::{ProcessInfo, ProcessesResponse};
use rustix::param::clock_ticks_per_second;
use rustix::process::Pid;
use rustix::time::{ClockId, clock_gettime};

use super::cgroup::{Cgroup, CgroupError};

/// The longest command line told, in bytes.
const MAX_COMMAND_LEN: usize = 4096;

/// Bytes of all command lines together: an answer holds 4 MiB.
const MAX_COMMANDS_LEN: usize = 2 << 20;

/// The most processes told.
const MAX_PROCESSES: usize = 16 * 1024;

/// Lists them; those that end meanwhile are left out.
pub(super) fn list(cgroup: &Cgroup) -> Result<ProcessesResponse, CgroupError> {
    let started = Clock::now();
    let mut pids = cgroup.processes()?;
    pids.sort_unstable_by_key(|pid| pid.as_raw_nonzero());
    let mut found: Vec<(u32, Process)> = Vec::new();
    let (mut room, mut more) = (MAX_COMMANDS_LEN, pids.len() > MAX_PROCESSES);
    for pid in pids.into_iter().take(MAX_PROCESSES) {
        let Some(process) = Process::read(pid) else { continue };
        if process.command.len() > room {
            more = true;
            break;
        }
        room -= process.command.len();
        found.push((pid.as_raw_nonzero().get().unsigned_abs(), process));
    }
    let inside: HashMap<u32, u32> = found.iter().map(|(pid, process)| (*pid, process.pid)).collect();
    let processes = found.into_iter().map(|(_, process)| process.info(&inside, &started)).collect();
    Ok(ProcessesResponse { processes, more, ..Default::default() })
}

/// When the guest booted, on the wall clock, in ns.
struct Clock {
    booted_at: i64,
    ticks_per_second: u64,
}

impl Clock {
    fn now() -> Self {
        let since_boot = clock_gettime(ClockId::Boottime);
        let since_boot = since_boot.tv_sec.saturating_mul(1_000_000_000).saturating_add(since_boot.tv_nsec);
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX);
        Self { booted_at: now.saturating_sub(since_boot), ticks_per_second: clock_ticks_per_second().max(1) }
    }

    fn milliseconds(&self, ticks: u64) -> u64 {
        ticks.saturating_mul(1000) / self.ticks_per_second
    }
}

struct Process {
    /// As the container sees it.
    pid: u32,
    /// As the agent does.
    parent: u32,
    uid: u32,
    /// In clock ticks.
    cpu: u64,
    started: u64,
    terminal: String,
    command: String,
}

impl Process {
    /// `None` for a process that has ended.
    fn read(pid: Pid) -> Option<Self> {
        let dir = format!("/proc/{pid}");
        let stat = fs::read_to_string(format!("{dir}/stat")).ok()?;
        let status = fs::read_to_string(format!("{dir}/status")).ok()?;
        let mut process = Self::parse(&stat, &status)?;
        let command = read_at_most(&format!("{dir}/cmdline"), MAX_COMMAND_LEN).ok()?;
        let command =
            String::from_utf8_lossy(command.trim_ascii_end()).trim_end_matches('\0').replace('\0', " ");
        if !command.is_empty() {
            process.command = command;
        }
        Some(process)
    }

    fn parse(stat: &str, status: &str) -> Option<Self> {
        let (name, after_name) = stat.split_once('(')?.1.rsplit_once(')')?;
        let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
        // What follows the name starts with field 3.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key));
        // From the agent's namespace inwards; the container's is the next, or the same.
        let mut pids = line("NSpid:")?.split_ascii_whitespace().filter_map(|pid| pid.parse().ok());
        let outside: u32 = pids.next()?;
        // Real, effective, saved, of the file system.
        let uid = line("Uid:")?.split_ascii_whitespace().nth(1)?.parse().ok()?;
        Some(Self {
            pid: pids.next().unwrap_or(outside),
            parent: u32::try_from(field(4)?).ok()?,
            uid,
            cpu: field(14)?.checked_add(field(15)?)?,
            started: field(22)?,
            terminal: terminal(field(7)?),
            command: format!("[{name}]"),
        })
    }

    fn info(self, inside: &HashMap<u32, u32>, clock: &Clock) -> ProcessInfo {
        let after_boot = i64::try_from(clock.milliseconds(self.started)).unwrap_or(i64::MAX);
        ProcessInfo {
            pid: self.pid,
            parent_pid: inside.get(&self.parent).copied().unwrap_or(0),
            uid: self.uid,
            cpu_ms: clock.milliseconds(self.cpu),
            started_at_ns: clock.booted_at.saturating_add(after_boot.saturating_mul(1_000_000)),
            terminal: self.terminal,
            command: self.command,
            ..Default::default()
        }
    }
}

/// A terminal's name by its device number (proc(5), field 7; Linux Documentation/admin-guide/devices.txt).
fn terminal(device: u64) -> String {
    let minor = (device & 0xff) | (device >> 12 & 0xf_ff00);
    match device >> 8 & 0xfff {
        // Each of these majors has 256 of the terminals of devpts.
        major @ 136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        5 if minor == 1 => "console".to_owned(),
        _ => String::new(),
    }
}

fn read_at_most(path: &str, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(length as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STAT: &str = "57 (a) (b c) S 42 57 57 34817 57 4194560 100 0 0 0 150 50 0 0 20 0 1 0 1234 2 3 0";
    const STATUS: &str = "Name:\ta\nNSpid:\t57\t7\nUid:\t1000\t33\t33\t33\n";

    #[test]
    fn a_process_is_told_as_its_container_sees_it() {
        let process = Process::parse(STAT, STATUS).unwrap();
        assert_eq!((process.pid, process.parent, process.uid), (7, 42, 33));
        assert_eq!((process.cpu, process.started), (200, 1234));
        assert_eq!((&*process.terminal, &*process.command), ("pts/1", "[a) (b c]"));
        let clock = Clock { booted_at: 1_000_000_000, ticks_per_second: 100 };
        let info = process.info(&HashMap::from([(42, 1)]), &clock);
        assert_eq!((info.parent_pid, info.cpu_ms), (1, 2000));
        assert_eq!(info.started_at_ns, 13_340_000_000);
    }

    #[test]
    fn terminals_are_named_by_their_numbers() {
        assert_eq!(terminal(0), "");
        assert_eq!(terminal(137 << 8 | 3), "pts/259");
        assert_eq!(terminal(5 << 8 | 1), "console");
    }

    #[test]
    fn this_process_is_found() {
        let process = Process::read(rustix::process::getpid()).unwrap();
        assert_eq!(process.uid, rustix::process::geteuid().as_raw());
        assert!(!process.command.is_empty() && !process.command.contains('\0'));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(stat in "(?s).{0,100}", status in "(?s).{0,100}", device in any::<u64>()) {
            let _ = Process::parse(&stat, STATUS);
            let _ = Process::parse(STAT, &status);
            terminal(device);
        }
    }
}
