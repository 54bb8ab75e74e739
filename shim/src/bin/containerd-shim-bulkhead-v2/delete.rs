//! `delete`: containerd calls it for a bundle whose shim does not answer any more. Whatever state the shim died in, or hangs
//! in, nothing of it is left.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

use containerd_shim_protos::api::DeleteResponse;
use protobuf::{Message, MessageField};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use sandbox::{ProcessId, Record, RecordError, StateDir};
use shim::PodId;

use crate::PROGRAM;
use crate::arguments::Arguments;
use crate::socket::{self, ADDRESS_FILE};
use crate::start::{self, PID_FILE};
use crate::timestamp::timestamp;

/// What containerd tells of a process that went with its shim: SIGKILL's.
const KILLED: u32 = 137;

/// How long a killed shim may take to be gone, of the five seconds containerd waits for all of this.
const PATIENCE: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

#[derive(Debug, thiserror::Error)]
pub(crate) enum DeleteError {
    #[error("cannot tell which bundle is meant")]
    Bundle(#[source] io::Error),
    #[error("cannot clean up what the shim left")]
    State(#[from] RecordError),
    #[error("cannot end the shim that does not answer")]
    Shim(#[source] io::Error),
    #[error("cannot answer")]
    Answer(#[source] io::Error),
}

pub(crate) fn delete(arguments: &Arguments) -> Result<(), DeleteError> {
    let bundle = start::bundle(arguments).map_err(DeleteError::Bundle)?;
    let state = StateDir::open()?;
    let record = record(&state, arguments)?;
    end(supervisor(record.as_ref(), &bundle, arguments)).map_err(DeleteError::Shim)?;
    state.sweep()?;
    remove_socket(&bundle);
    // Nothing of this shim's is mounted there; of another's that had the bundle before, perhaps.
    let _ = unmount(bundle.join("rootfs"), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    let response = DeleteResponse {
        pid: record.and_then(|record| record.vmm).map_or(0, |vmm| vmm.pid),
        exit_status: KILLED,
        exited_at: MessageField::some(timestamp(SystemTime::now())),
        ..Default::default()
    };
    let response = response.write_to_bytes().map_err(|error| DeleteError::Answer(io::Error::other(error)))?;
    io::stdout().write_all(&response).map_err(DeleteError::Answer)
}

/// Of the pod that has the bundle's name. A container in somebody else's pod has none: that one may live on.
fn record(state: &StateDir, arguments: &Arguments) -> Result<Option<Record>, RecordError> {
    let pod = PodId { namespace: arguments.namespace.clone(), id: arguments.id.clone() };
    let name = pod.record();
    Ok(state.records()?.into_iter().find(|record| record.name == name))
}

/// The shim, where it is there: by the record of its pod, or by what `start` left, if it had no pod yet.
fn supervisor(record: Option<&Record>, bundle: &Path, arguments: &Arguments) -> Option<ProcessId> {
    if let Some(record) = record {
        return Some(record.supervisor);
    }
    let pid = fs::read_to_string(bundle.join(PID_FILE)).ok()?.trim().parse().ok()?;
    let process = ProcessId::of(pid).ok()?;
    serves(pid, &arguments.id).then_some(process)
}

/// Whether a process is a shim of this program's for the pod with this id.
fn serves(pid: u32, id: &str) -> bool {
    let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let program = words.first().is_some_and(|program| program.ends_with(PROGRAM.as_bytes()));
    program && words.windows(2).any(|pair| pair == [b"-id".as_slice(), id.as_bytes()])
}

/// The very process, not one that has its number now.
fn end(supervisor: Option<ProcessId>) -> io::Result<()> {
    let Some(supervisor) = supervisor else { return Ok(()) };
    let Some(pid) = i32::try_from(supervisor.pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
    if ProcessId::of(supervisor.pid).ok() != Some(supervisor) {
        return Ok(());
    }
    match pidfd_send_signal(&process, Signal::KILL) {
        Err(Errno::SRCH) => return Ok(()),
        sent => sent?,
    }
    // What it held is nobody's only when it is gone.
    let mut gone = [PollFd::new(&process, PollFlags::IN)];
    match retry_on_intr(|| poll(&mut gone, Some(&PATIENCE)))? {
        0 => Err(io::Error::new(io::ErrorKind::TimedOut, "the killed process does not end")),
        _ => Ok(()),
    }
}

/// Unless somebody serves there: a pod's socket is all its containers'.
fn remove_socket(bundle: &Path) {
    let address = fs::read_to_string(bundle.join(ADDRESS_FILE)).ok();
    if let Some(path) = address.as_deref().and_then(socket::path_of)
        && std::os::unix::net::UnixStream::connect(&path).is_err()
    {
        let _ = fs::remove_file(path);
    }
}
