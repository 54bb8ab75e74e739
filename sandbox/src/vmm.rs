//! The VMM process of one sandbox, as its supervisor sees it: requests and their replies, streams the
//! guest opens, and the end.

mod conversation;
mod process;

use std::convert::Infallible;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use vmm_api::{Failure, PageRange, Reply, Request, SendError};

use crate::ended::{Ended, Reason};
use crate::guest_text;
use conversation::Ask;

/// Requests waiting to be sent; more callers wait.
const QUEUE: usize = 16;

/// A running VMM; dropping this kills it.
pub(crate) struct Vmm {
    handle: VmmHandle,
    pid: u32,
    /// Dropped, what supervises it ends it.
    wanted: oneshot::Sender<Infallible>,
    supervision: JoinHandle<()>,
}

/// What can be asked of a VMM; clones do not keep it alive.
#[derive(Clone)]
pub(crate) struct VmmHandle {
    asks: mpsc::Sender<Ask>,
    ended: watch::Receiver<Option<Arc<Ended>>>,
}

/// A stream the guest opened to a port that was listened on.
pub(crate) struct Incoming {
    pub(crate) port: u32,
    pub(crate) stream: OwnedFd,
}

#[derive(Debug, thiserror::Error)]
pub enum VmmError {
    #[error("the VMM could not do it: {0}")]
    Refused(#[from] Failure),
    #[error("cannot send to the VMM")]
    Send(#[from] SendError),
    #[error("the VMM answered another question")]
    WrongReply,
    #[error("cannot use the stream the VMM passed")]
    Stream(#[source] io::Error),
    #[error("the VM ended: {0}")]
    Ended(Arc<Ended>),
}

impl Vmm {
    /// Starts the program, in `cgroup` if there is one, and what supervises it. The receiver brings the streams the
    /// guest opens.
    pub(crate) fn spawn(
        program: &Path,
        cgroup: Option<BorrowedFd<'_>>,
    ) -> io::Result<(Self, mpsc::Receiver<Incoming>)> {
        let process = process::VmmProcess::spawn(program, cgroup)?;
        let pid = process.pid();
        let (asks, asked) = mpsc::channel(QUEUE);
        let (incoming_sender, incoming) = mpsc::channel(QUEUE);
        let (ended_sender, ended) = watch::channel(None);
        let (wanted, unwanted) = oneshot::channel();
        let supervision = tokio::spawn(process.supervise(asked, incoming_sender, ended_sender, unwanted));
        Ok((Self { handle: VmmHandle { asks, ended }, pid, wanted, supervision }, incoming))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn handle(&self) -> &VmmHandle {
        &self.handle
    }

    /// Ends the VM: nothing of the guest runs any more. Its process is there until it is [`gone`](Self::gone).
    pub(crate) async fn halt(&self) -> Arc<Ended> {
        // A failure means that the VM has ended on its own, and `ended` tells how.
        let _ = self.handle.call(Request::Stop, Vec::new()).await;
        self.handle.ended().await
    }

    /// Ends the process, and waits until it is gone with all that it had.
    pub(crate) async fn gone(self) {
        let Self { wanted, supervision, .. } = self;
        drop(wanted);
        // Fails if it panicked: then the process was killed as it was dropped.
        let _ = supervision.await;
    }
}

impl VmmHandle {
    /// Sends `request` with its descriptors and waits for what it brings.
    pub(crate) async fn call(
        &self,
        request: Request,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(Reply, Vec<OwnedFd>), VmmError> {
        let (answer, answered) = oneshot::channel();
        if self.asks.send(Ask { request, descriptors, answer }).await.is_err() {
            return Err(VmmError::Ended(self.ended().await));
        }
        match answered.await {
            Ok(result) => result,
            Err(_) => Err(VmmError::Ended(self.ended().await)),
        }
    }

    /// Opens a vsock stream to a port the guest listens on.
    pub(crate) async fn connect(&self, port: u32) -> Result<OwnedFd, VmmError> {
        match self.call(Request::Connect { port }, Vec::new()).await? {
            (Reply::Connected, mut descriptors) => descriptors.pop().ok_or(VmmError::WrongReply),
            _ => Err(VmmError::WrongReply),
        }
    }

    /// Lets the guest open streams to `port`.
    pub(crate) async fn listen(&self, port: u32) -> Result<(), VmmError> {
        match self.call(Request::Listen { port }, Vec::new()).await? {
            (Reply::Listening, _) => Ok(()),
            _ => Err(VmmError::WrongReply),
        }
    }

    /// The pages the guest has written since it went on.
    pub(crate) async fn written(&self) -> Result<Vec<PageRange>, VmmError> {
        match self.call(Request::Written, Vec::new()).await? {
            (Reply::Written { pages }, _) => Ok(pages),
            _ => Err(VmmError::WrongReply),
        }
    }

    /// The last lines of the guest's console.
    pub(crate) async fn console(&self) -> Result<String, VmmError> {
        match self.call(Request::Console, Vec::new()).await? {
            (Reply::Console { tail }, _) => Ok(guest_text::console(&tail)),
            _ => Err(VmmError::WrongReply),
        }
    }

    /// Waits for the end.
    pub(crate) async fn ended(&self) -> Arc<Ended> {
        let mut ended = self.ended.clone();
        let told = ended.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
        told.unwrap_or_else(|| {
            Arc::new(Ended::lost(Reason::Lost("its supervision was ended".to_owned()), String::new()))
        })
    }
}

/// A stream the VMM passed, for use in the current runtime.
pub(crate) fn stream(descriptor: OwnedFd) -> io::Result<UnixStream> {
    let stream = std::os::unix::net::UnixStream::from(descriptor);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}
