//! The end of a container: of its supervisor with all it has, and of what is left then.

use std::io;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use sandbox::{RecordError, StateDir};
use shim::Moment;
use tokio::time::timeout;

use crate::cgroup;
use crate::client::Client;
use crate::log::Log;
use crate::protocol::Ask;
use crate::runtime::wait_for;
use crate::state::{Container, Root, StateError, lives};

/// How long a supervisor may take to end its virtual machine, and then to be gone once it is killed.
const GRACE: Duration = Duration::from_secs(10);
const SECONDS: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

#[derive(Debug, thiserror::Error)]
pub(crate) enum TeardownError {
    #[error("cannot end the supervisor of container {id}")]
    Kill { id: String, source: io::Error },
    #[error("cannot wait for the container's supervisor")]
    Wait(#[source] io::Error),
    #[error("container {0} still running")]
    Lasting(String),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    State(#[from] StateError),
}

/// Ends a container in what state ever it is, and clears away what is left of it.
pub(crate) fn end(root: &Root, container: &Container, log: &Log) -> Result<(), TeardownError> {
    wait_for(destroy(root, container)).map_err(TeardownError::Wait)??;
    clear(root, container, log)
}

/// Waits until its supervisor is gone: asked to go, or else killed.
async fn destroy(root: &Root, container: &Container) -> Result<(), TeardownError> {
    let failed = |error: Errno| TeardownError::Kill { id: container.id.clone(), source: error.into() };
    let pid = i32::try_from(container.supervisor.pid).ok().and_then(Pid::from_raw);
    let Some(pid) = pid.filter(|_| lives(container.supervisor)) else { return Ok(()) };
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(Errno::SRCH) => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    // The descriptor holds whoever has the pid now; only then is it worth asking who that is.
    if !lives(container.supervisor) {
        return Ok(());
    }
    let gone = || {
        let mut ended = [PollFd::new(&process, PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut ended, Some(&SECONDS))).map(|ready| ready > 0).map_err(failed)
    };
    let asked = async { Client::connect(root, &container.pod, &container.id)?.ask(Ask::Destroy).await };
    // One that broke off its answer is on its way.
    let obeys = timeout(GRACE, asked).await.is_ok_and(|asked| asked.is_ok());
    if obeys && gone()? {
        return Ok(());
    }
    match pidfd_send_signal(&process, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => return Err(failed(error)),
    }
    if gone()? { Ok(()) } else { Err(TeardownError::Lasting(container.id.clone())) }
}

/// Whichever way the supervisor went.
fn clear(root: &Root, container: &Container, log: &Log) -> Result<(), TeardownError> {
    StateDir::open()?.sweep()?;
    if let Some(Err(error)) = container.cgroup.as_deref().map(cgroup::remove) {
        log.warning(&format!("cannot remove the container's cgroup: {error}"));
    }
    let state = container.for_hooks();
    let hooks = container.hooks.as_ref();
    // The life of a container goes on to its end whatever they do (OCI runtime-spec, runtime.md, "Lifecycle").
    if let Some(Err(error)) = hooks.map(|hooks| shim::run_hooks(hooks, Moment::Poststop, &state)) {
        log.warning(&shim::describe(&error));
    }
    Ok(root.remove(&container.id)?)
}
