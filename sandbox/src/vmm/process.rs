//! The process: started with nothing but its control socket, watched until it is gone.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use spawn::Child;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use vmm_api::{CONTROL_FD, ControlSocket};

use super::Incoming;
use super::conversation::{Ask, converse};
use crate::control::AsyncControl;
use crate::ended::{Ended, Reason};
use crate::guest_text;

/// How much of the VMM's standard error is kept: its last bytes.
const DIAGNOSTICS: usize = 8 * 1024;

/// How long a VMM that closed its control socket may take to exit before it is killed.
const EXIT_GRACE: Duration = Duration::from_secs(2);

pub(super) struct VmmProcess {
    child: Child,
    stderr: Receiver,
    control: AsyncControl,
}

impl VmmProcess {
    /// In a process group of its own, which is out of the terminal's foreground group: Ctrl-C is for the container.
    pub(super) fn spawn(program: &Path, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Self> {
        let (ours, theirs) = ControlSocket::pair()?;
        let (stderr, written) = pipe_with(PipeFlags::CLOEXEC)?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let descriptors: [_; CONTROL_FD as usize + 1] =
            [null.as_fd(), null.as_fd(), written.as_fd(), theirs.as_fd()];
        let child = spawn::spawn(program, &descriptors, cgroup)?;
        Ok(Self { child, stderr: Receiver::from_owned_fd(stderr)?, control: AsyncControl::new(ours)? })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Serves the control socket until it ends, or nobody wants it any more, then waits for the process to be gone.
    pub(super) async fn supervise(
        self,
        asks: mpsc::Receiver<Ask>,
        incoming: mpsc::Sender<Incoming>,
        unwanted: oneshot::Receiver<Infallible>,
    ) -> Ended {
        let Self { child, stderr, control } = self;
        // The socket is closed when the conversation ends, which tells the VMM to go.
        let talk_and_reap = async {
            let (told, at_once) = tokio::select! {
                biased;
                _ = unwanted => (Ok(None), true),
                told = converse(control, asks, incoming) => {
                    let at_once = matches!(told, Ok(Some(_)));
                    (told, at_once)
                }
            };
            if at_once || timeout(EXIT_GRACE, child.ended()).await.is_err() {
                // Nothing more is expected of it. It may be gone already.
                let _ = child.kill();
            }
            (told, child.wait().await)
        };
        let ((told, status), diagnostics) = tokio::join!(talk_and_reap, tail(stderr));
        match told {
            Ok(Some(end)) => Ended::told(end, diagnostics),
            Ok(None) => Ended::untold(status, diagnostics),
            Err(error) => Ended::lost(Reason::Lost(with_sources(&error)), diagnostics),
        }
    }
}

/// Reads to the end, and keeps the last [`DIAGNOSTICS`] bytes. A VMM that its guest took over may write
/// anything.
async fn tail(mut source: impl AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let mut piece = [0; 1024];
    while let Ok(length @ 1..) = source.read(&mut piece).await {
        kept.extend_from_slice(piece.get(..length).unwrap_or_default());
        let excess = kept.len().saturating_sub(DIAGNOSTICS);
        kept.drain(..excess);
    }
    guest_text::console(&String::from_utf8_lossy(&kept))
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_last_of_a_flood_is_kept() {
        let flood = "x".repeat(10 * DIAGNOSTICS) + "the end";
        let kept = tail(flood.as_bytes()).await;
        assert_eq!(kept.len(), DIAGNOSTICS);
        assert!(kept.ends_with("the end"));
    }
}
