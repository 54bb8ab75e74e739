//! Starts a supervisor: this program again, in the background, with our streams.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command};

use sandbox::{ControlSocket, ReceiveError, SendError};

use crate::inherited;
use crate::protocol::{News, Orders, Proceed};
use crate::supervise;

/// Stands for "ended by signal n" in an exit code, as shells have it.
const SIGNALLED: i32 = 128;

/// A supervisor that was started. Dropped before it is [ready](Self::ready), it gives up.
pub(crate) struct Hired {
    child: Child,
    connection: ControlSocket,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum HireError {
    #[error("cannot start the container's supervisor")]
    Start(#[source] io::Error),
    #[error("cannot tell the container's supervisor what to do")]
    Send(#[from] SendError),
    #[error("no word from the container's supervisor")]
    Receive(#[source] ReceiveError),
    #[error("the container's supervisor was killed")]
    Killed,
    #[error("{0}")]
    Failed(String),
}

impl Hired {
    /// Starts one that has the orders, and the descriptors that go with them.
    pub(crate) fn hire(orders: &Orders, descriptors: &[BorrowedFd<'_>]) -> Result<Self, HireError> {
        inherited::keep_to_ourselves();
        let (ours, theirs) = ControlSocket::pair().map_err(HireError::Start)?;
        let number = inherited::bequeath(theirs.as_fd()).map_err(HireError::Start)?;
        let mut program = Command::new("/proc/self/exe");
        // Known by its name and the container's id to whoever looks at the list of processes.
        program.arg0("bulkhead-oci").args([supervise::VERB, &orders.id, &number]);
        let child = program.spawn().map_err(HireError::Start)?;
        drop(theirs);
        ours.send(orders, descriptors)?;
        Ok(Self { child, connection: ours })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until its process is where the container's is to be.
    pub(crate) fn launched(&self) -> Result<(), HireError> {
        match self.news()? {
            News::Failed(message) => Err(HireError::Failed(message)),
            News::Launched | News::Ready => Ok(()),
        }
    }

    /// Has it go on, and waits until the container, or the further process, is made.
    pub(crate) fn ready(&self) -> Result<(), HireError> {
        self.connection.send(&Proceed, &[])?;
        self.launched()
    }

    /// Has one that is not ready yet give up, and waits until it has.
    pub(crate) fn dismiss(self) {
        let Self { mut child, connection } = self;
        drop(connection);
        // What it was is gone, in whichever way it ended.
        let _ = child.wait();
    }

    /// The child, for whoever waits for its end.
    pub(crate) fn into_child(self) -> Child {
        self.child
    }

    fn news(&self) -> Result<News, HireError> {
        match self.connection.receive() {
            Ok((news, _)) => Ok(news),
            Err(ReceiveError::Closed) => Err(HireError::Killed),
            Err(error) => Err(HireError::Receive(error)),
        }
    }
}

/// The exit code that a supervisor ended with, as a shell tells it.
pub(crate) fn exit_code(status: std::process::ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| SIGNALLED + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
