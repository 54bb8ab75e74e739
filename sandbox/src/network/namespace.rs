//! Network namespaces, and work to be done in them: by threads of their own, for a thread is in one at a time.

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

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

    /// Does the work in a thread that has entered it, and waits for the thread.
    pub(crate) fn run<T: Send>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send,
    ) -> Result<io::Result<T>, NamespaceError> {
        in_thread(|| Ok(self.enter().map(|()| work())))
            .map_err(NamespaceError::Enter)?
            .map_err(NamespaceError::Enter)
    }

    /// Does the work in a runtime of its own, in a thread that has entered it.
    pub(crate) async fn run_async<T, F, W>(&self, work: W) -> Result<T, NamespaceError>
    where
        T: Send + 'static,
        F: Future<Output = T>,
        W: FnOnce() -> F + Send + 'static,
    {
        let namespace = self.try_clone().map_err(NamespaceError::Enter)?;
        let (done, result) = tokio::sync::oneshot::channel();
        let body = move || {
            let result = namespace.enter().and_then(|()| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                Ok(runtime.block_on(work()))
            });
            // Whoever asked may have gone.
            let _ = done.send(result);
        };
        thread::Builder::new().name("netns".to_owned()).spawn(body).map_err(NamespaceError::Enter)?;
        let died = |_| NamespaceError::Enter(io::Error::other("the thread in it died"));
        result.await.map_err(died)?.map_err(NamespaceError::Enter)
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
