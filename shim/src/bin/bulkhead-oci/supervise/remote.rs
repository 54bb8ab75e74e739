//! The supervisor of a process in a virtual machine that another supervisor has: a pod's further container, or a further
//! process in a container.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;

use oci_spec::runtime::Process;
use sandbox::{Streams, TerminalSize};
use shim::Bundle;
use tokio::net::UnixStream;

use super::carry::carry;
use super::follow::{Kept, follow};
use super::{Job, KILLED, SuperviseError, pod};
use crate::blob;
use crate::client::{Client, ClientError};
use crate::protocol::{Ask, News, Reply, Wanted, Wiring};
use crate::state::Status;

pub(super) async fn supervise_member(job: &mut Job, path: &Path, pod: &str) -> Result<u8, SuperviseError> {
    let bundle = Bundle::load(path)?;
    let keeper = job.root.load(pod).ok().filter(|keeper| keeper.status() != Status::Stopped);
    let keeper = keeper.ok_or_else(|| SuperviseError::NoPod(pod.to_owned()))?;
    job.enter_network_of(keeper.supervisor.pid).await?;
    let process = bundle.spec.process().as_ref();
    let ask = |wanted| Ask::Create { bundle: path.to_owned(), wanted };
    let code = keep(job, &keeper.pod, process, ask, None).await?;
    let any = [Status::Created, Status::Running, Status::Paused];
    // Where it cannot be written, this process's end says the same.
    let _ = job.root.advance(&job.id, &any, Status::Stopped);
    Ok(code)
}

pub(super) async fn supervise_exec(job: &mut Job, pod: &str, process: OwnedFd) -> Result<u8, SuperviseError> {
    let process: Process = blob::read(process)?;
    let passed = blob::write(&process)?;
    keep(job, pod, Some(&process), |wanted| Ask::Exec { wanted }, Some(passed)).await
}

/// Has the process made, and follows it to its end.
async fn keep(
    job: &mut Job,
    pod: &str,
    process: Option<&Process>,
    ask: impl FnOnce(Wanted) -> Ask,
    blob: Option<OwnedFd>,
) -> Result<u8, SuperviseError> {
    let client = Client::connect(&job.root, pod, &job.id)?;
    job.parent.launched().await?;
    let ends = pod::ends(process, job)?;
    let descriptors: Vec<_> = blob.iter().map(AsFd::as_fd).collect();
    client.send(ask(ends.wanted()), &descriptors).await?;
    let streams = match job.parent.unless_gone(client.answer()).await?? {
        (Reply::Made(wiring), descriptors) => streams(wiring, descriptors)?,
        _ => return Err(ClientError::NoAnswer.into()),
    };
    let terminal = ends.terminal.as_ref().map(|terminal| terminal.try_clone()).transpose();
    let terminal = terminal.map_err(SuperviseError::Streams)?;
    let carrying = carry(ends, streams).map_err(SuperviseError::Streams)?;
    job.parent.tell(News::Ready).await;
    match follow(&client, terminal.as_ref(), &mut job.signals).await {
        Ok(code) => {
            carrying.written().await;
            Ok(code)
        }
        // The whole pod has ended.
        Err(_) => Ok(KILLED),
    }
}

fn streams(wiring: Wiring, descriptors: Vec<OwnedFd>) -> Result<Streams, SuperviseError> {
    let mut descriptors = descriptors.into_iter();
    let mut next = |wired: bool| match wired.then(|| descriptors.next()).flatten() {
        None => Ok(None),
        Some(descriptor) => {
            let stream = StdStream::from(descriptor);
            let stream = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
            stream.map(Some).map_err(SuperviseError::Streams)
        }
    };
    Ok(Streams { stdin: next(wiring.stdin)?, stdout: next(wiring.stdout)?, stderr: next(wiring.stderr)? })
}

/// The connection's own process.
impl Kept for Client {
    type Lost = ClientError;

    async fn signal(&self, signal: u32) {
        drop(self.send(Ask::Signal { signal, all: false }, &[]).await);
    }

    async fn resize(&self, size: TerminalSize) {
        let TerminalSize { rows, columns } = size;
        drop(self.send(Ask::Resize { rows, columns }, &[]).await);
    }

    async fn ended(&self) -> Result<u8, ClientError> {
        loop {
            match self.answer().await {
                Ok((Reply::Exited(code), _)) => return Ok(code),
                // Of signals that came too late.
                Ok(_) | Err(ClientError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
}
