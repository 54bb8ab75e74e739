//! A program that logs a container's output (containerd's `binary://`): it reads stdout and stderr as descriptors 3 and 4,
//! and closes 5 when it is ready.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::Owner;
use crate::descriptors::hand_down;
use crate::log;

/// How long it may take to be ready.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Logger(Child);

impl Logger {
    /// Waits until it is ready; with this host's ends of what it reads.
    pub(super) async fn start(
        program: &Path,
        arguments: &[String],
        owner: Owner<'_>,
    ) -> io::Result<(Self, pipe::Sender, pipe::Sender)> {
        let [stdout, stderr, ready] = [pair()?, pair()?, pair()?];
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("CONTAINER_ID", owner.id)
            .env("CONTAINER_NAMESPACE", owner.namespace)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        hand_down(command.as_std_mut(), [stdout.0, stderr.0, ready.1])?;
        let child = command.spawn()?;
        // With the descriptors it was handed, which would keep its streams from ending.
        drop(command);
        let mut ready = pipe::Receiver::from_owned_fd(ready.0)?;
        match timeout(PATIENCE, ready.read(&mut [0])).await {
            Ok(read) => read?,
            Err(_) => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it does not say that it is ready"));
            }
        };
        let ends = [stdout.1, stderr.1].map(pipe::Sender::from_owned_fd);
        let [stdout, stderr] = ends;
        Ok((Self(child), stdout?, stderr?))
    }

    /// Leaves it to itself: it ends with its streams.
    pub(super) fn forget(self) {
        tokio::spawn(async move {
            match self.ended().await {
                Ok(status) if status.success() => {}
                Ok(status) => log::error(format_args!("the logging binary ended with {status}")),
                Err(error) => log::error(format_args!("the logging binary cannot be waited for: {error}")),
            }
        });
    }

    pub(super) async fn ended(self) -> io::Result<ExitStatus> {
        let Self(mut child) = self;
        child.wait().await
    }
}

/// Its reading end, then its writing end.
fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC)?)
}
