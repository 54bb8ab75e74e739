//! The supervisor of a running container, as other processes see it.

use std::fs::File;
use std::io;
use std::time::Duration;

use sandbox::{AsyncControl, ReceiveError, SendError, SnapshotFiles, Streams, local_socket};

use crate::config::StopTimeout;
use crate::container::Container;
use crate::protocol::{Ended, Failure, Reply, Request, SOCKET, Size, Wiring};
use crate::wires::Wires;

/// A connection to it. It closes when the supervisor is done with the container.
pub struct Supervisor {
    connection: AsyncControl,
    container: Container,
}

/// The streams and the end of a container's run.
pub struct Attachment {
    supervisor: Supervisor,
}

#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    #[error("container {0} is not running")]
    NotRunning(String),
    #[error("cannot reach the supervisor of container {name}")]
    Connect { name: String, source: io::Error },
    #[error("cannot make streams to attach")]
    Streams(#[source] io::Error),
    #[error("cannot ask the supervisor of container {name}")]
    Ask { name: String, source: SendError },
    #[error("no answer from the supervisor of container {name}")]
    Answer { name: String, source: ReceiveError },
    /// It answered another question, or not at all.
    #[error("the supervisor of container {0} was killed, and the container with it")]
    Gone(String),
    #[error("container {name}: {message}")]
    Refused { name: String, message: String },
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl Supervisor {
    /// Connects to the supervisor of a container that runs. Wants a Tokio runtime.
    pub fn connect(container: &Container) -> Result<Self, SupervisorError> {
        let name = container.name().to_owned();
        let connection =
            File::open(container.directory()).and_then(|directory| local_socket::connect(directory, SOCKET));
        match connection {
            Ok(connection) => Ok(Self { connection, container: container.clone() }),
            Err(error) => Err(match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    SupervisorError::NotRunning(name)
                }
                _ => SupervisorError::Connect { name, source: error },
            }),
        }
    }

    pub(crate) fn over(connection: AsyncControl, container: Container) -> Self {
        Self { connection, container }
    }

    pub fn container(&self) -> &Container {
        &self.container
    }

    /// Sends the container's command a signal, by its Linux number.
    pub async fn signal(&self, signal: u32) -> Result<(), SupervisorError> {
        self.ask(&Request::Signal { signal }).await?;
        self.done().await
    }

    /// Freezes all processes of the container.
    pub async fn pause(&self) -> Result<(), SupervisorError> {
        self.ask(&Request::Pause).await?;
        self.done().await
    }

    pub async fn unpause(&self) -> Result<(), SupervisorError> {
        self.ask(&Request::Unpause).await?;
        self.done().await
    }

    /// Fills an empty directory, by its absolute path, with a copy of the container as it runs; tells how long it stood
    /// still for that.
    pub async fn snapshot(&self, files: &SnapshotFiles) -> Result<Duration, SupervisorError> {
        self.ask(&Request::Snapshot { directory: files.directory().to_owned() }).await?;
        match self.answer().await? {
            Some(Reply::Copied { stood }) => Ok(Duration::from_nanos(stood)),
            Some(other) => Err(self.unexpected(other)),
            None => Err(SupervisorError::NotRunning(self.name())),
        }
    }

    /// Asks the command to end, and ends it when it does not in time; waits until all is torn down. The restart
    /// policy does not bring it back. What is `None` is as the container was created with.
    pub async fn stop(
        &self,
        signal: Option<u32>,
        timeout: Option<StopTimeout>,
    ) -> Result<Ended, SupervisorError> {
        self.ask(&Request::Stop { signal, timeout }).await?;
        self.ended().await
    }

    /// Waits for the end of the present run.
    pub async fn wait(&self) -> Result<Ended, SupervisorError> {
        self.ask(&Request::Wait).await?;
        self.ended().await
    }

    /// Waits until the supervisor is done with the container, restarts and all.
    pub async fn done_with(&self) {
        while self.connection.receive::<Reply>().await.is_ok() {}
    }

    /// Attaches streams to the container's; outputs begin with what comes next.
    pub async fn attach(self, wiring: Wiring) -> Result<(Attachment, Streams), SupervisorError> {
        let wires = Wires::new(&wiring).map_err(SupervisorError::Streams)?;
        let descriptors: Vec<_> = wires.descriptors().collect();
        let asked = self.connection.send(&Request::Attach { wiring }, &descriptors).await;
        asked.map_err(|source| SupervisorError::Ask { name: self.name(), source })?;
        self.done().await?;
        Ok((Attachment { supervisor: self }, wires.ours))
    }

    async fn ask(&self, request: &Request) -> Result<(), SupervisorError> {
        match self.connection.send(request, &[]).await {
            Ok(()) => Ok(()),
            // It is done with the container; what it last said may still be there to read.
            Err(SendError::Socket(_)) => Ok(()),
            Err(source) => Err(SupervisorError::Ask { name: self.name(), source }),
        }
    }

    async fn done(&self) -> Result<(), SupervisorError> {
        match self.answer().await? {
            Some(Reply::Done) => Ok(()),
            Some(other) => Err(self.unexpected(other)),
            None => Err(SupervisorError::NotRunning(self.name())),
        }
    }

    /// Answers that are not about the end are passed over: who waits for it may have asked for more.
    async fn ended(&self) -> Result<Ended, SupervisorError> {
        loop {
            match self.answer().await? {
                Some(Reply::Ended(ended)) => return Ok(ended),
                Some(Reply::Failed(failure)) => return Err(failure.into()),
                Some(Reply::Done | Reply::Refused(_) | Reply::Copied { .. }) => {}
                None => return self.ended_unheard(),
            }
        }
    }

    /// The connection closed: the container ended at the same moment, or its supervisor was killed.
    fn ended_unheard(&self) -> Result<Ended, SupervisorError> {
        let mut container = self.container.clone();
        match container.refresh() {
            Ok(status) if status.supervisor.is_none() => Ok(Ended {
                code: status.exit_code,
                out_of_memory: status.out_of_memory,
                error: status.error.clone(),
                ..Ended::default()
            }),
            _ => Err(SupervisorError::Gone(self.name())),
        }
    }

    /// `None` when the supervisor closed the connection.
    async fn answer(&self) -> Result<Option<Reply>, SupervisorError> {
        match self.connection.receive::<Reply>().await {
            Ok((reply, _)) => Ok(Some(reply)),
            Err(ReceiveError::Closed) => Ok(None),
            Err(ReceiveError::Socket(error)) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(source) => Err(SupervisorError::Answer { name: self.name(), source }),
        }
    }

    fn unexpected(&self, reply: Reply) -> SupervisorError {
        match reply {
            Reply::Refused(message) => SupervisorError::Refused { name: self.name(), message },
            Reply::Failed(failure) => SupervisorError::Failed(failure),
            Reply::Ended(_) => SupervisorError::NotRunning(self.name()),
            Reply::Done | Reply::Copied { .. } => SupervisorError::Gone(self.name()),
        }
    }

    fn name(&self) -> String {
        self.container.name().to_owned()
    }
}

impl Attachment {
    pub(crate) fn over(supervisor: Supervisor) -> Self {
        Self { supervisor }
    }

    pub fn container(&self) -> &Container {
        &self.supervisor.container
    }

    /// Waits until the start it was part of is done.
    pub(crate) async fn started(&self) -> Result<(), SupervisorError> {
        match self.supervisor.answer().await? {
            Some(Reply::Done) => Ok(()),
            Some(Reply::Failed(failure)) => Err(failure.into()),
            Some(other) => Err(self.supervisor.unexpected(other)),
            None => Err(SupervisorError::Gone(self.supervisor.name())),
        }
    }

    /// Sends the command a signal; one that has ended gets none.
    pub async fn signal(&self, signal: u32) -> Result<(), SupervisorError> {
        self.supervisor.ask(&Request::Signal { signal }).await
    }

    pub async fn resize(&self, size: impl Into<Size>) -> Result<(), SupervisorError> {
        let Size { rows, columns } = size.into();
        self.supervisor.ask(&Request::Resize { rows, columns }).await
    }

    /// Tells the command that nobody reads its stdout, or stderr, any more.
    pub async fn unread(&self, stderr: bool) -> Result<(), SupervisorError> {
        self.supervisor.ask(&Request::Unread { stderr }).await
    }

    /// Ends the container, in what state ever it is, without asking its command.
    pub async fn abort(&self) -> Result<(), SupervisorError> {
        self.supervisor.ask(&Request::Stop { signal: None, timeout: Some(StopTimeout::After(0)) }).await
    }

    /// Waits for the end of the run. Cancelled, it loses nothing.
    pub async fn ended(&self) -> Result<Ended, SupervisorError> {
        self.supervisor.ended().await
    }
}
