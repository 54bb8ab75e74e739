//! The making of a container, from a bundle to a process that waits to be started.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sandbox::ProcessId;
use shim::{
    Bundle, BundleError, HookError, IdError, Membership, Moment, cgroup_path, check_hooks, check_id,
    run_hooks,
};

use crate::args::StartingArgs;
use crate::cgroup;
use crate::hire::{HireError, Hired};
use crate::log::Log;
use crate::pid_file::{self, PidFileError};
use crate::protocol::{Orders, Task};
use crate::state::{Container, Root, StateError, Status};
use crate::teardown;

/// In runc's words, where it has any.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MakeError {
    #[error(transparent)]
    Id(#[from] IdError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error("cannot use the bundle {}", path.display())]
    Path { path: PathBuf, source: io::Error },
    #[error("cannot allocate tty if runc will detach without setting console socket")]
    NoConsole,
    #[error("cannot use console socket if runc will not detach or allocate tty")]
    NoTerminal,
    #[error("cannot connect to the console socket {}", path.display())]
    Console { path: PathBuf, source: io::Error },
    #[error("cannot make a console")]
    OwnConsole(#[source] io::Error),
    #[error(
        "descriptors cannot be preserved (--preserve-fds, LISTEN_FDS): the process runs in a virtual machine, where those of \
         the host mean nothing"
    )]
    PreserveDescriptors,
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Hire(#[from] HireError),
    #[error(transparent)]
    Hook(#[from] HookError),
    #[error("cannot look at the container's supervisor")]
    Supervisor(#[source] io::Error),
    #[error(transparent)]
    PidFile(#[from] PidFileError),
}

/// Where the other end of a process's terminal goes.
pub(crate) enum Console {
    /// There is no terminal.
    None,
    /// To the caller.
    Theirs(OwnedFd),
    /// To this process.
    Ours { sent: OwnedFd, received: UnixStream },
}

pub(crate) struct Made {
    pub container: Container,
    pub supervisor: Hired,
    /// The terminal's other end comes here.
    pub console: Option<UnixStream>,
}

impl Console {
    /// As the command line and the process want it. One in the foreground has the terminal of this process.
    pub(crate) fn choose(terminal: bool, detached: bool, socket: Option<&Path>) -> Result<Self, MakeError> {
        match (terminal, detached, socket) {
            (true, true, None) => Err(MakeError::NoConsole),
            (true, true, Some(path)) => match UnixStream::connect(path) {
                Ok(socket) => Ok(Self::Theirs(socket.into())),
                Err(source) => Err(MakeError::Console { path: path.to_owned(), source }),
            },
            (_, _, Some(_)) => Err(MakeError::NoTerminal),
            (true, false, None) => {
                let (sent, received) = UnixStream::pair().map_err(MakeError::OwnConsole)?;
                Ok(Self::Ours { sent: sent.into(), received })
            }
            (false, _, None) => Ok(Self::None),
        }
    }

    /// What the supervisor gets, and what stays here.
    pub(crate) fn split(self) -> (Option<OwnedFd>, Option<UnixStream>) {
        match self {
            Self::None => (None, None),
            Self::Theirs(socket) => (Some(socket), None),
            Self::Ours { sent, received } => (Some(sent), Some(received)),
        }
    }
}

/// Refuses descriptors that a process is to have beside its streams.
pub(crate) fn refuse_descriptors(preserved: u32) -> Result<(), MakeError> {
    // sd_listen_fds(3): they are ours only if the pid is.
    let variable = |name| std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(0u32);
    let activated = variable("LISTEN_FDS") > 0 && variable("LISTEN_PID") == std::process::id();
    if preserved > 0 || activated { Err(MakeError::PreserveDescriptors) } else { Ok(()) }
}

/// Makes a container. If that fails, nothing is left of it.
pub(crate) fn make(
    root: &Root,
    id: &str,
    args: &StartingArgs,
    detached: bool,
    log: &Log,
) -> Result<Made, MakeError> {
    check_id(id)?;
    refuse_descriptors(args.preserve_fds)?;
    let path = args.bundle.canonicalize();
    let path = path.map_err(|source| MakeError::Path { path: args.bundle.clone(), source })?;
    let bundle = Bundle::load(&path)?;
    bundle.spec.hooks().as_ref().map_or(Ok(()), check_hooks)?;
    let terminal = bundle.spec.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false);
    let console = Console::choose(terminal, detached, args.console_socket.as_deref())?;
    root.claim(id)?;
    let made = supervised(root, id, &bundle, console, log).and_then(|made| match &args.pid_file {
        None => Ok(made),
        Some(path) => match pid_file::write(path, made.supervisor.pid()) {
            Ok(()) => Ok(made),
            Err(error) => {
                // Why it was to end is more to tell than how it did.
                let _ = teardown::end(root, &made.container, log);
                Err(error.into())
            }
        },
    });
    if made.is_err() {
        // What is in the way of a new one is told then.
        let _ = root.remove(id);
    }
    made
}

fn supervised(
    root: &Root,
    id: &str,
    bundle: &Bundle,
    console: Console,
    log: &Log,
) -> Result<Made, MakeError> {
    let (pod, task) = match Membership::of(bundle) {
        Membership::Member { pod } if pod != id => {
            (pod.clone(), Task::Member { bundle: bundle.path.clone(), pod })
        }
        _ => (id.to_owned(), Task::Pod { bundle: bundle.path.clone() }),
    };
    check_id(&pod)?;
    let (sent, received) = console.split();
    let orders = Orders {
        root: root.path().to_owned(),
        id: id.to_owned(),
        console: sent.is_some(),
        cgroup: cgroup_path(&bundle.spec),
        log: log.clone(),
        task,
    };
    let descriptors: Vec<_> = sent.iter().map(AsFd::as_fd).collect();
    let supervisor = Hired::hire(&orders, &descriptors)?;
    let container = Container {
        id: id.to_owned(),
        status: Status::Creating,
        supervisor: ProcessId::of(supervisor.pid()).map_err(MakeError::Supervisor)?,
        pod,
        bundle: bundle.path.clone(),
        rootfs: bundle.root(),
        cgroup: orders.cgroup,
        created: Timestamp::now(),
        annotations: annotations(bundle),
        hooks: bundle.spec.hooks().clone(),
    };
    match prepared(root, &container, &supervisor) {
        Ok(()) => Ok(Made { container, supervisor, console: received }),
        Err(error) => {
            supervisor.dismiss();
            clear(&container, log);
            Err(error)
        }
    }
}

/// Accompanies the supervisor to where the container is made.
fn prepared(root: &Root, container: &Container, supervisor: &Hired) -> Result<(), MakeError> {
    root.store(container)?;
    supervisor.launched()?;
    if let Some(hooks) = &container.hooks {
        let state = container.for_hooks();
        for moment in [Moment::Prestart, Moment::CreateRuntime, Moment::CreateContainer] {
            run_hooks(hooks, moment, &state)?;
        }
    }
    supervisor.ready()?;
    Ok(root.advance(&container.id, &[Status::Creating], Status::Created)?)
}

/// What hooks have set up before one failed, the last ones are to take down.
fn clear(container: &Container, log: &Log) {
    if let Some(cgroup) = &container.cgroup {
        // One that is in use is another's as well.
        let _ = cgroup::remove(cgroup);
    }
    let Some(hooks) = &container.hooks else { return };
    if let Err(error) = run_hooks(hooks, Moment::Poststop, &container.for_hooks()) {
        log.warning(&shim::describe(&error));
    }
}

fn annotations(bundle: &Bundle) -> BTreeMap<String, String> {
    let annotations = bundle.spec.annotations().iter().flatten();
    annotations.map(|(key, value)| (key.clone(), value.clone())).collect()
}
