//! Network namespaces, and work to be done in them: by threads of their own, for a thread is in one at a time.

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::sync::oneshot;

/// That of the calling thread.
const OWN: &str = "/proc/thread-self/ns/net";

/// A network namespace that is there for as long as this is.
#[derive(Debug)]
pub struct NetworkNamespace {
    file: File,
}

#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    #[error("cannot open the network namespace {}", .path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{} is no network namespace", .0.display())]
    Kind(PathBuf),
    #[error("cannot make a network namespace")]
    Make(#[source] io::Error),
    #[error("cannot enter the sandbox's network namespace")]
    Enter(#[source] io::Error),
}

impl NetworkNamespace {
    /// A new one, in which there is nothing but a loopback that is down.
    pub fn create() -> Result<Self, NamespaceError> {
        let made = in_thread(|| {
            host_calls::leave_network()?;
            File::open(OWN)
        });
        Ok(Self { file: made.map_err(NamespaceError::Make)? })
    }

    /// The one at `path`: of /run/netns, or a process's ns/net in /proc.
    pub fn open(path: &Path) -> Result<Self, NamespaceError> {
        let file =
            File::open(path).map_err(|source| NamespaceError::Open { path: path.to_owned(), source })?;
        if !host_calls::is_network_namespace(&file) {
            return Err(NamespaceError::Kind(path.to_owned()));
        }
        Ok(Self { file })
    }

    /// Whether the calling thread is in it.
    pub fn is_own(&self) -> io::Result<bool> {
        let (this, own) = (self.file.metadata()?, std::fs::metadata(OWN)?);
        Ok((this.dev(), this.ino()) == (own.dev(), own.ino()))
    }

    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { file: self.file.try_clone()? })
    }

    /// Has a thread that has entered it spawn a process, which then lives there. In a runtime, which has its tasks.
    pub(crate) fn spawn_in<T: Send>(
        &self,
        spawn: impl FnOnce() -> io::Result<T> + Send,
    ) -> Result<io::Result<T>, NamespaceError> {
        let runtime = tokio::runtime::Handle::current();
        let work = || {
            self.enter()?;
            let _tasks_are_there = runtime.enter();
            Ok(spawn())
        };
        in_thread(work).map_err(NamespaceError::Enter)
    }

    /// Does the work in a runtime of its own, in a thread that has entered it.
    pub(crate) async fn run_async<T, F, W>(&self, work: W) -> Result<T, NamespaceError>
    where
        T: Send + 'static,
        F: Future<Output = T>,
        W: FnOnce() -> F + Send + 'static,
    {
        let (done, result) = oneshot::channel();
        self.start(move || async move {
            // Whoever asked may have gone.
            let _ = done.send(work().await);
        })?;
        result.await.map_err(|_| NamespaceError::Enter(io::Error::other("the thread in it died")))
    }

    /// The same, and waits for nothing but that it has begun.
    pub(crate) fn start<F, W>(&self, work: W) -> Result<(), NamespaceError>
    where
        F: Future<Output = ()>,
        W: FnOnce() -> F + Send + 'static,
    {
        let namespace = self.try_clone().map_err(NamespaceError::Enter)?;
        let (report, entered) = std::sync::mpsc::sync_channel(1);
        let body = move || {
            let runtime = namespace
                .enter()
                .and_then(|()| tokio::runtime::Builder::new_current_thread().enable_all().build());
            drop(namespace);
            match runtime {
                Ok(runtime) => {
                    let _ = report.send(Ok(()));
                    runtime.block_on(work());
                }
                Err(error) => drop(report.send(Err(error))),
            }
        };
        thread::Builder::new().name("netns".to_owned()).spawn(body).map_err(NamespaceError::Enter)?;
        let entered = entered.recv().unwrap_or_else(|_| Err(io::Error::other("the thread in it died")));
        entered.map_err(NamespaceError::Enter)
    }

    fn enter(&self) -> io::Result<()> {
        Ok(move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))?)
    }
}

fn in_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace died")))
    })
}

impl AsFd for NetworkNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl From<NetworkNamespace> for OwnedFd {
    fn from(namespace: NetworkNamespace) -> Self {
        namespace.file.into()
    }
}
