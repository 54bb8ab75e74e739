//! The agent's event stream: readiness, exits, out-of-memory kills.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use agent_api::agent::{self, event};
use agent_api::event_frame::{Decoder, FrameError};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::container::Exit;

#[derive(Debug, thiserror::Error)]
pub enum EventError {
    #[error("the agent closed its event stream")]
    Closed,
    #[error("cannot read the agent's events")]
    Read(#[source] io::Error),
    #[error("the agent sent what is no event")]
    Frame(#[from] FrameError),
    #[error("the agent's first event is not that it is ready")]
    NotReady,
}

/// Reads events off their connection.
pub(crate) struct EventStream {
    stream: UnixStream,
    decoder: Decoder,
}

impl EventStream {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, decoder: Decoder::default() }
    }

    /// Waits for the first event, which says that the agent is ready.
    pub(crate) async fn ready(&mut self) -> Result<(), EventError> {
        match self.next().await? {
            event::Kind::Ready(_) => Ok(()),
            _ => Err(EventError::NotReady),
        }
    }

    async fn next(&mut self) -> Result<event::Kind, EventError> {
        let mut bytes = [0; 4096];
        loop {
            while let Some(event) = self.decoder.next_event()? {
                // An event of a later contract is passed over.
                if let Some(kind) = event.kind {
                    return Ok(kind);
                }
            }
            let length = self.stream.read(&mut bytes).await.map_err(EventError::Read)?;
            if length == 0 {
                return Err(EventError::Closed);
            }
            self.decoder.feed(bytes.get(..length).unwrap_or_default());
        }
    }
}

/// The exits of the processes this host made. Others are not kept: a guest can make up any number.
#[derive(Clone, Default)]
pub(crate) struct Events {
    expected: Arc<Mutex<HashMap<ProcessKey, watch::Sender<Option<Exit>>>>>,
}

#[derive(PartialEq, Eq, Hash)]
struct ProcessKey {
    container_id: String,
    exec_id: String,
}

impl Events {
    /// Where the exit of a process about to be made will show.
    pub(crate) fn expect(&self, container_id: &str, exec_id: &str) -> watch::Receiver<Option<Exit>> {
        let key = ProcessKey { container_id: container_id.to_owned(), exec_id: exec_id.to_owned() };
        let (exit, receiver) = watch::channel(None);
        self.lock().insert(key, exit);
        receiver
    }

    /// Takes in events until their stream ends.
    pub(crate) async fn follow(self, mut stream: EventStream) {
        while let Ok(event) = stream.next().await {
            if let event::Kind::Exit(exit) = event {
                self.exited(exit);
            }
        }
        // Whoever still waits learns that no exit will come.
        self.lock().clear();
    }

    fn exited(&self, exit: agent::Exit) {
        let key = ProcessKey { container_id: exit.container_id.clone(), exec_id: exit.exec_id.clone() };
        if let Some(expected) = self.lock().remove(&key) {
            expected.send_replace(Some(Exit::from_agent(&exit)));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ProcessKey, watch::Sender<Option<Exit>>>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
