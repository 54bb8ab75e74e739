//! A running sandbox as a process sees it that is not its supervisor: for `exec`, `kill` and their kind.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::net::UnixStream;
use vmm_api::ReceiveError;

use crate::broker::{self, Dial, Dialled};
use crate::control::AsyncControl;
use crate::guest::{Dialer, Guest, GuestError};
use crate::record::{Record, RecordError, State, StateDir};
use crate::vmm;

/// Another process's sandbox.
pub struct Attached {
    guest: Guest,
    record: Record,
}

#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("sandbox {0} is still starting")]
    Starting(String),
    #[error("cannot reach the supervisor of sandbox {name}")]
    Supervisor { name: String, source: io::Error },
    #[error("cannot reach the agent of sandbox {name}")]
    Agent { name: String, source: GuestError },
}

impl Attached {
    /// The sandbox of that name, id or beginning of an id.
    pub async fn open(state: &StateDir, wanted: &str) -> Result<Self, AttachError> {
        let record = state.find(wanted)?;
        let name = record.name.clone();
        if record.state == State::Starting {
            return Err(AttachError::Starting(name));
        }
        let dialer = match BrokerDialer::new(state, &name) {
            Ok(dialer) => Arc::new(dialer),
            Err(source) => return Err(AttachError::Supervisor { name, source }),
        };
        match Guest::connect(dialer, None).await {
            Ok(guest) => Ok(Self { guest, record }),
            Err(source) => Err(AttachError::Agent { name, source }),
        }
    }

    pub fn guest(&self) -> &Guest {
        &self.guest
    }

    pub fn record(&self) -> &Record {
        &self.record
    }
}

struct BrokerDialer {
    directory: File,
    /// Nothing is said on it; it closes when the supervisor lets go of the sandbox.
    lifeline: AsyncControl,
}

impl BrokerDialer {
    fn new(state: &StateDir, name: &str) -> io::Result<Self> {
        let directory = File::open(state.directory_of(name))?;
        let lifeline = broker::connect(&directory)?;
        Ok(Self { directory, lifeline })
    }

    async fn ask(&self, port: u32) -> Result<OwnedFd, Box<dyn std::error::Error + Send + Sync>> {
        let connection = broker::connect(&self.directory)?;
        connection.send(&Dial { port }, &[]).await?;
        let (dialled, mut descriptors) = connection.receive::<Dialled>().await?;
        dialled?;
        descriptors.pop().ok_or_else(|| "no descriptor came with the reply".into())
    }
}

#[async_trait]
impl Dialer for BrokerDialer {
    async fn dial(&self, port: u32) -> Result<UnixStream, GuestError> {
        let stream = self.ask(port).await.and_then(|stream| Ok(vmm::stream(stream)?));
        stream.map_err(|source| GuestError::Dial { port, source })
    }

    async fn ended(&self) -> GuestError {
        // Anything received here is no part of the protocol and as good as an end.
        let _: Result<((), _), ReceiveError> = self.lifeline.receive().await;
        GuestError::Gone
    }
}
