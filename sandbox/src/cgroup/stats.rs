//! What a sandbox's VMM uses of the host.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::param::{clock_ticks_per_second, page_size};

use crate::record::Record;

/// What a sandbox costs the host: its VMM, with the VM's memory and vCPUs in it. The guest's own word is
/// [`GuestStats`](crate::GuestStats).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HostStats {
    /// Processor time used.
    pub cpu: Duration,
    /// Resident memory in bytes, files that are mapped included.
    pub memory: u64,
    pub threads: u64,
}

/// What the sandbox's VMM uses now. An error of kind `NotFound` if it has none any more.
pub fn host_stats(record: &Record) -> io::Result<HostStats> {
    let gone = || io::Error::new(io::ErrorKind::NotFound, "the sandbox's VMM has ended");
    let vmm = record.vmm.ok_or_else(gone)?;
    let stat = fs::read_to_string(format!("/proc/{}/stat", vmm.pid))?;
    // Read first, compared after: it was this process all along.
    if crate::process_id::ProcessId::of(vmm.pid)? != vmm {
        return Err(gone());
    }
    parse(&stat, clock_ticks_per_second(), page_size() as u64)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/pid/stat is not as proc(5) has it"))
}

/// Fields 14, 15, 20 and 24 of a /proc/pid/stat line (proc(5)).
fn parse(stat: &str, ticks_per_second: u64, page_size: u64) -> Option<HostStats> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    // What follows the name starts with field 3.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks = field(14)?.checked_add(field(15)?)?;
    let cpu = Duration::from_millis(ticks.checked_mul(1000)?.checked_div(ticks_per_second)?);
    Some(HostStats { cpu, memory: field(24)?.checked_mul(page_size)?, threads: field(20)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_proc_are_found_behind_any_name() {
        let stat = "7 (a) 1 (b)) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 3 0 12345 9000 256 0";
        let expected = HostStats { cpu: Duration::from_secs(2), memory: 256 * 4096, threads: 3 };
        assert_eq!(parse(stat, 100, 4096), Some(expected));
        assert_eq!(parse("7 (a", 100, 4096), None);
    }
}
