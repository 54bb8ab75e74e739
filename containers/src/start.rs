//! Starts a container: its supervisor is started, and given the container and the first client's streams, so
//! that not a byte of them is lost.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use sandbox::{AsyncControl, ControlSocket, SendError, Streams, local_socket};

use crate::containers::Claimed;
use crate::inherited;
use crate::protocol::{Request, SOCKET, Wiring};
use crate::supervisor::{Attachment, Supervisor, SupervisorError};
use crate::wires::Wires;

/// A container that starts, or runs.
pub struct Started {
    attachment: Attachment,
    /// Its supervisor.
    process: Child,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot start a supervisor for container {name}")]
    Spawn { name: String, source: io::Error },
    #[error("cannot hand container {name} over to its supervisor")]
    HandOver { name: String, source: SendError },
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
}

impl Claimed {
    /// Starts `program`, which is to call [`supervise`](crate::supervise()), as this container's supervisor. With
    /// `wiring`, the streams it names are attached from the first byte on. `timed`: the end tells of each step.
    /// Wants a Tokio runtime.
    pub async fn start(
        mut self,
        program: Command,
        wiring: Option<Wiring>,
        timed: bool,
    ) -> Result<(Started, Streams), StartError> {
        let name = self.container.name().to_owned();
        let failed = |source| StartError::Spawn { name: name.clone(), source };
        let wires =
            wiring.as_ref().map_or_else(|| Wires::new(&Wiring::default()), Wires::new).map_err(failed)?;
        let (process, connection, listener) = self.spawn(program).map_err(failed)?;

        let request = Request::Start { id: self.container.id().to_owned(), wiring, timed };
        let own: [BorrowedFd<'_>; 2] = [self.lock.as_fd(), listener.as_fd()];
        let descriptors: Vec<_> = own.into_iter().chain(wires.descriptors()).collect();
        let handed_over = connection.send(&request, &descriptors).await;
        handed_over.map_err(|source| StartError::HandOver { name, source })?;
        // From here on the lock is the supervisor's alone.
        let attachment = Attachment::over(Supervisor::over(connection, self.container));
        Ok((Started { attachment, process }, wires.ours))
    }

    /// The process, the connection to it, and the socket it is to serve.
    fn spawn(&mut self, mut program: Command) -> io::Result<(Child, AsyncControl, OwnedFd)> {
        // Whoever connects from now on is served, if not at once.
        let _ = std::fs::remove_file(self.container.directory().join(SOCKET));
        let listener = local_socket::bind(&self.lock, SOCKET)?;
        let (ours, theirs) = ControlSocket::pair()?;
        inherited::keep_to_ourselves();
        let process = program
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .spawn()?;
        Ok((process, AsyncControl::new(ours)?, listener))
    }
}

impl Started {
    /// The client's side of the container.
    pub fn attachment(&self) -> &Attachment {
        &self.attachment
    }

    /// Waits until the command runs. When it comes to nothing, all there was of it is gone.
    pub async fn running(&self) -> Result<(), SupervisorError> {
        self.attachment.started().await
    }

    /// Waits until the supervisor's process is gone: for who has been told of the container's end.
    pub fn gone(mut self) -> io::Result<()> {
        self.process.wait().map(|_| ())
    }
}
