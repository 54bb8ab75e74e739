//! The process behind a container, or behind a further process in one: it has the streams, passes signals on, and ends as
//! the process does. Its parent is told how the start went, over the socket it was started with.
//!
//! That of a [`pod`]'s first container, or of one that is alone, has the virtual machine too, and [`serve`]s it to the others,
//! which are [`remote`].

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use sandbox::{AsyncControl, ControlSocket, GuestError};
use shim::{BundleError, PodError};
use tokio::sync::oneshot;

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
    /// To the first thread.
    first: mpsc::Sender<Entering>,
    signals: Signals,
    console: Option<OwnedFd>,
}

/// Who started this process.
struct Parent(AsyncControl);

/// The network namespace of a process, for the first thread to enter.
struct Entering {
    pid: u32,
    done: oneshot::Sender<io::Result<()>>,
}

/// Does what the socket's other end says. Gives the exit code.
///
/// The first thread is the one by which others see the process (proc(5), /proc/pid/ns), and hooks look there for the
/// container's network. It does nothing but be in it: the work goes on in the host's, in a thread of its own.
pub(crate) fn supervise(socket: &OsStr) -> u8 {
    let Ok(connection) = crate::inherited::inherit(socket) else { return FAILED };
    // It was executed by a link's name.
    let _ = rustix::thread::set_name(c"bulkhead-oci");
    let (first, entering) = mpsc::channel::<Entering>();
    let working = std::thread::Builder::new().spawn(move || work(ControlSocket::from(connection), first));
    let Ok(working) = working else { return FAILED };
    for Entering { pid, done } in entering {
        let _ = done.send(enter_network_of(pid));
    }
    working.join().unwrap_or(FAILED)
}

fn work(connection: ControlSocket, first: mpsc::Sender<Entering>) -> u8 {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return FAILED;
    };
    let code = runtime.block_on(run(connection, first));
    // What still blocks (input that does not come) ends with the process.
    runtime.shutdown_background();
    code
}

async fn run(connection: ControlSocket, first: mpsc::Sender<Entering>) -> u8 {
    // Whoever started us sees the connection close.
    let Ok(parent) = AsyncControl::new(connection).map(Parent) else { return FAILED };
    let Ok((orders, descriptors)) = parent.0.receive::<Orders>().await else { return FAILED };
    // In a session of its own, a terminal's signals reach it only if the terminal is the container's. It leads none, as it
    // was just started by another program.
    let _ = rustix::process::setsid();
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
    let mut job = Job { root: Root::at(root), id, log, parent, first, signals, console };
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
    /// Has others see this process in another's network namespace.
    async fn enter_network_of(&self, pid: u32) -> Result<(), SuperviseError> {
        let (done, entered) = oneshot::channel();
        let died = || SuperviseError::Network(io::Error::other("the first thread died"));
        self.first.send(Entering { pid, done }).map_err(|_| died())?;
        entered.await.map_err(|_| died())?.map_err(SuperviseError::Network)
    }

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

/// Puts the calling thread into a process's network namespace.
fn enter_network_of(pid: u32) -> io::Result<()> {
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}
