//! The process behind a container, or behind a further process in one: it has the streams, passes signals on, and ends as
//! the process does. Its parent is told how the start went, over the socket it was started with.
//!
//! That of a [`pod`]'s first container, or of one that is alone, has the virtual machine too, and [`serve`]s it to the others,
//! which are [`remote`].

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use sandbox::{AsyncControl, ControlSocket, GuestError};
use shim::{BundleError, PodError};

use crate::blob::BlobError;
use crate::cgroup;
use crate::client::ClientError;
use crate::log::Log;
use crate::protocol::{News, Orders, Proceed, Task};
use crate::signals::Signals;
use crate::state::{Root, StateError};

mod carry;
mod ends;
mod follow;
mod pod;
mod remote;
mod serve;

/// What makes this program a supervisor. The id that follows is for whoever looks at the list of processes, and then comes
/// the number of the socket that says what to do.
pub(crate) const VERB: &str = "supervise";

/// The exit code of a supervisor that came to nothing, which its parent does not look at.
const FAILED: u8 = 1;

/// The exit code of a process that was ended with all it ran in: as by SIGKILL.
const KILLED: u8 = 128 + 9;

#[derive(Debug, thiserror::Error)]
enum SuperviseError {
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Pod(#[from] PodError),
    #[error(transparent)]
    Record(#[from] sandbox::RecordError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error("cannot set up the console")]
    Console(#[source] io::Error),
    #[error("cannot take the container's streams")]
    Streams(#[source] io::Error),
    #[error("cannot enter the pod's network namespace")]
    Network(#[source] io::Error),
    #[error("cannot listen on the container's control socket")]
    Listen(#[source] io::Error),
    #[error(
        "the pod {0} of this container does not run: every pod wants a container that keeps it (in CRI-O: \
         drop_infra_ctr = false)"
    )]
    NoPod(String),
    #[error("the orders are incomplete")]
    Orders,
    #[error("nobody waits for the container any more")]
    Abandoned,
}

/// What a supervisor was started with.
struct Job {
    root: Root,
    id: String,
    log: Log,
    parent: Parent,
    signals: Signals,
    console: Option<OwnedFd>,
}

/// Who started this process.
struct Parent(AsyncControl);

/// Does what the socket's other end says. Gives the exit code.
pub(crate) fn supervise(socket: &OsStr) -> u8 {
    let Ok(connection) = crate::inherited::inherit(socket) else { return FAILED };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return FAILED;
    };
    let code = runtime.block_on(run(ControlSocket::from(connection)));
    // What still blocks (input that does not come) ends with the process.
    runtime.shutdown_background();
    code
}

async fn run(connection: ControlSocket) -> u8 {
    // Whoever started us sees the connection close.
    let Ok(parent) = AsyncControl::new(connection).map(Parent) else { return FAILED };
    let Ok((orders, descriptors)) = parent.0.receive::<Orders>().await else { return FAILED };
    // In a session of its own, a terminal's signals reach it only if the terminal is the container's. It leads none, as it
    // was just started by another program.
    let _ = rustix::process::setsid();
    // It was executed by a link's name.
    let _ = rustix::thread::set_name(c"bulkhead-oci");
    let Ok(signals) = Signals::take() else { return FAILED };
    let Orders { root, id, console, cgroup, log, task } = orders;
    // It keeps nothing of where it was started from in use.
    let _ = rustix::process::chdir("/");
    if let Some(Err(error)) = cgroup.as_deref().map(cgroup::enter) {
        // What it uses is counted elsewhere; its guest is limited all the same.
        log.warning(&format!("cannot enter the container's cgroup: {error}"));
    }
    let mut descriptors = descriptors.into_iter();
    let console = console.then(|| descriptors.next()).flatten();
    let mut job = Job { root: Root::at(root), id, log, parent, signals, console };
    let done = match task {
        Task::Pod { bundle } => pod::supervise(&mut job, &bundle).await,
        Task::Member { bundle, pod } => remote::supervise_member(&mut job, &bundle, &pod).await,
        Task::Exec { pod } => match descriptors.next() {
            Some(process) => remote::supervise_exec(&mut job, &pod, process).await,
            None => Err(SuperviseError::Orders),
        },
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            job.parent.tell(News::Failed(shim::describe(&error))).await;
            FAILED
        }
    }
}

impl Job {
    /// The process has ended for a reason that is not its own.
    fn lost(&self, error: &GuestError) -> u8 {
        self.log.error(&shim::describe(error));
        KILLED
    }
}

impl Parent {
    /// It may be gone: then it does not matter.
    async fn tell(&self, news: News) {
        let _ = self.0.send(&news, &[]).await;
    }

    /// Says that this process is where the container's is to be, and waits until the hooks have run.
    async fn launched(&self) -> Result<(), SuperviseError> {
        self.tell(News::Launched).await;
        match self.0.receive::<Proceed>().await {
            Ok(_) => Ok(()),
            Err(_) => Err(SuperviseError::Abandoned),
        }
    }

    /// Does some work, unless nobody wants it any more.
    async fn unless_gone<T>(&self, work: impl Future<Output = T>) -> Result<T, SuperviseError> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            // It has nothing to say while it waits.
            _ = self.0.receive::<Proceed>() => Err(SuperviseError::Abandoned),
        }
    }
}

/// Puts this process into another's network namespace, where hooks look for the container's. There is but one thread yet
/// that matters: the first, by which others see the process (proc(5), /proc/pid/ns).
fn enter_network_of(pid: u32) -> Result<(), SuperviseError> {
    let namespace = File::open(Path::new("/proc").join(pid.to_string()).join("ns/net"));
    let entered = namespace.and_then(|namespace| {
        Ok(move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(LinkNameSpaceType::Network))?)
    });
    entered.map_err(SuperviseError::Network)
}
