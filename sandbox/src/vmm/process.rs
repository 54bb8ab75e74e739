//! The process: started with nothing but its control socket, watched until it is gone.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use spawn::Child;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use vmm_api::{CONTROL_FD, ControlSocket};

use super::Incoming;
use super::conversation::{Ask, converse};
use crate::control::AsyncControl;
use crate::diagnostics::Diagnostics;
use crate::ended::{Ended, Reason};

/// How long a VMM that closed its control socket may take to exit before it is killed.
const EXIT_GRACE: Duration = Duration::from_secs(2);

pub(super) struct VmmProcess {
    child: Child,
    stderr: Diagnostics<Receiver>,
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
        Ok(Self {
            child,
            stderr: Diagnostics::of(Receiver::from_owned_fd(stderr)?),
            control: AsyncControl::new(ours)?,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Serves the control socket until the VM has ended, and says how. One that said so itself keeps what it has until
    /// nobody wants it any more. Then waits for the process to be gone.
    pub(super) async fn supervise(
        self,
        asks: mpsc::Receiver<Ask>,
        incoming: mpsc::Sender<Incoming>,
        ended: watch::Sender<Option<Arc<Ended>>>,
        mut unwanted: oneshot::Receiver<Infallible>,
    ) {
        let Self { child, mut stderr, control } = self;
        let (told, at_once) = tokio::select! {
            biased;
            _ = &mut unwanted => (Ok(None), true),
            told = converse(&control, asks, incoming) => (told, false),
            never = stderr.keep() => match never {},
        };
        let tell = |end| drop(ended.send_replace(Some(Arc::new(end))));
        if let Ok(Some(end)) = told {
            tell(Ended::told(end, stderr.so_far().await));
            // Its sender only ever goes.
            let _ = unwanted.await;
            let _ = child.kill();
            drop(child.wait().await);
            return;
        }
        // Which tells the VMM to go.
        drop(control);
        if at_once || timeout(EXIT_GRACE, child.ended()).await.is_err() {
            // It may be gone already.
            let _ = child.kill();
        }
        let status = child.wait().await;
        let diagnostics = stderr.so_far().await;
        tell(match told {
            Err(error) => Ended::lost(Reason::Lost(with_sources(&error)), diagnostics),
            Ok(_) => Ended::untold(status, diagnostics),
        });
    }
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
