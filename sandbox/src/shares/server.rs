//! `bulkhead-file-server`: the process, and what is asked of it.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use file_server_api::{FUSE_FD, Failure, Reply, Request, fuse_sockets};
use rustix::pipe::{PipeFlags, pipe_with};
use spawn::Child;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use vmm_api::{ControlSocket, ReceiveError, SendError};

use crate::control::AsyncControl;
use crate::diagnostics::Diagnostics;

/// What it may take of the host's memory, in bytes: it has to know each file for as long as the guest does.
pub(crate) const MEMORY: u64 = 128 << 20;

/// Requests waiting to be sent; more callers wait.
const QUEUE: usize = 16;

/// How long a server whose control socket closed may take to exit before it is killed.
const EXIT_GRACE: Duration = Duration::from_secs(2);

/// A file server that runs. It ends when this is dropped.
pub(crate) struct FileServer {
    pid: u32,
    /// Until the VMM has it.
    device: Option<ServedDevice>,
    asks: mpsc::Sender<Ask>,
    supervision: JoinHandle<()>,
}

/// What carries the guest's requests.
pub(crate) struct ServedDevice {
    /// The VMM's end.
    pub(crate) socket: OwnedFd,
    /// Ends when the server does.
    pub(crate) served: oneshot::Receiver<Infallible>,
}

/// A request with its descriptor, and whom to tell the answer.
struct Ask {
    request: Request,
    descriptor: Option<OwnedFd>,
    answer: oneshot::Sender<Result<(), ServerError>>,
}

/// Why the file server did not do something.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("the file server could not do it: {0}")]
    Refused(#[from] Failure),
    #[error("cannot send to the file server")]
    Send(#[from] SendError),
    #[error("the file server gives no answer; it said last: {said:?}")]
    Receive { said: String, source: ReceiveError },
    #[error("the file server has ended")]
    Ended,
}

impl FileServer {
    /// Starts the program, in `cgroup` if there is one, and what supervises it.
    pub(crate) fn spawn(program: &Path, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Self> {
        let (ours, theirs) = ControlSocket::pair()?;
        let (device, server) = fuse_sockets()?;
        let (stderr, written) = pipe_with(PipeFlags::CLOEXEC)?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let descriptors: [_; FUSE_FD as usize + 1] =
            [null.as_fd(), null.as_fd(), written.as_fd(), theirs.as_fd(), server.as_fd()];
        let child = spawn::spawn(program, &descriptors, cgroup)?;
        let pid = child.pid();
        let (control, stderr) = (AsyncControl::new(ours)?, Diagnostics::of(Receiver::from_owned_fd(stderr)?));
        let (asks, asked) = mpsc::channel(QUEUE);
        let (serving, served) = oneshot::channel();
        let supervision = tokio::spawn(supervise(child, control, stderr, asked, serving));
        Ok(Self { pid, device: Some(ServedDevice { socket: device, served }), asks, supervision })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// For the VMM; once.
    pub(crate) fn take_device(&mut self) -> Option<ServedDevice> {
        self.device.take()
    }

    pub(crate) async fn ask(&self, request: Request, descriptor: Option<OwnedFd>) -> Result<(), ServerError> {
        let (answer, answered) = oneshot::channel();
        let ask = Ask { request, descriptor, answer };
        self.asks.send(ask).await.map_err(|_| ServerError::Ended)?;
        answered.await.unwrap_or(Err(ServerError::Ended))
    }

    /// Ends the process, and waits until it is gone.
    pub(crate) async fn gone(self) {
        let Self { asks, supervision, .. } = self;
        drop(asks);
        // Fails if it panicked: then the process was killed as it was dropped.
        let _ = supervision.await;
    }
}

/// Answers what is asked, one after the other, until nobody is left to ask or the server is gone.
async fn supervise(
    child: Child,
    control: AsyncControl,
    mut stderr: Diagnostics<Receiver>,
    mut asked: mpsc::Receiver<Ask>,
    serving: oneshot::Sender<Infallible>,
) {
    loop {
        let Ask { request, descriptor, answer } = tokio::select! {
            ask = asked.recv() => match ask {
                Some(ask) => ask,
                None => break,
            },
            _ = child.ended() => break,
            never = stderr.keep() => match never {},
        };
        let result = converse(&control, &request, descriptor, &mut stderr).await;
        let over =
            matches!(result, Err(ServerError::Send(SendError::Socket(_)) | ServerError::Receive { .. }));
        // Who asked may have gone.
        let _ = answer.send(result);
        if over {
            break;
        }
    }
    // Which tells the server to go, and whoever needs it that it does.
    drop((control, asked, serving));
    if timeout(EXIT_GRACE, child.ended()).await.is_err() {
        // It may be gone already.
        let _ = child.kill();
    }
    drop(child.wait().await);
}

async fn converse(
    control: &AsyncControl,
    request: &Request,
    descriptor: Option<OwnedFd>,
    stderr: &mut Diagnostics<Receiver>,
) -> Result<(), ServerError> {
    let descriptors: Vec<_> = descriptor.iter().map(AsFd::as_fd).collect();
    control.send(request, &descriptors).await?;
    // The server alone is to keep it.
    drop(descriptor);
    match control.receive::<Reply>().await {
        Ok((reply, _)) => Ok(reply?),
        Err(source) => Err(ServerError::Receive { said: stderr.so_far().await, source }),
    }
}
