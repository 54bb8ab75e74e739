//! A process, named so that a later one with the same pid is not taken for it.

use std::fs;
use std::io;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// How long a killed process may take to be gone: it has memory to give back.
const KILL_GRACE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: u32,
    /// When it started, in clock ticks since boot (proc(5), /proc/pid/stat, field 22).
    pub started: u64,
}

impl ProcessId {
    /// The running process that has this pid now.
    pub fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let started = start_time(&stat)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/pid/stat has no start time"))?;
        Ok(Self { pid, started })
    }

    /// Kills the process and waits until it is gone; does nothing when it is gone already.
    pub(crate) fn kill(&self) -> io::Result<()> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => process,
            Err(Errno::SRCH) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        // The descriptor holds whoever has the pid now; only then is it worth asking who that is.
        if Self::of(self.pid).ok() != Some(*self) {
            return Ok(());
        }
        match pidfd_send_signal(&process, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
        let mut gone = [PollFd::new(&process, PollFlags::IN)];
        match rustix::io::retry_on_intr(|| poll(&mut gone, Some(&KILL_GRACE)))? {
            0 => Err(io::Error::new(io::ErrorKind::TimedOut, "the killed process does not end")),
            _ => Ok(()),
        }
    }
}

/// Field 22 of a /proc/pid/stat line. The program's name before it may hold blanks and parentheses.
fn start_time(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    // What follows starts with field 3.
    after_name.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_name_full_of_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) 1 (b)) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 0 0";
        assert_eq!(start_time(stat), Some(12345));
        assert_eq!(start_time("7 (a"), None);
    }

    #[test]
    fn only_the_very_process_is_killed() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let id = ProcessId::of(child.id()).unwrap();
        ProcessId { started: id.started + 1, ..id }.kill().unwrap();
        assert!(child.try_wait().unwrap().is_none(), "a process of another start time was killed");
        let reaper = std::thread::spawn(move || child.wait().unwrap());
        id.kill().unwrap();
        assert!(!reaper.join().unwrap().success());
        id.kill().unwrap();
    }
}
