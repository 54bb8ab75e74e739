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

/// What is told of the processes this host made. Others are not kept: a guest can make up any number.
#[derive(Clone, Default)]
pub(crate) struct Events {
    expected: Arc<Mutex<HashMap<ProcessKey, Expected>>>,
}

#[derive(PartialEq, Eq, Hash)]
struct ProcessKey {
    container_id: String,
    exec_id: String,
}

/// Where the exit of a process shows, and how often its container ran out of memory before.
#[derive(Clone)]
pub(crate) struct Told {
    pub(crate) exit: watch::Receiver<Option<Exit>>,
    pub(crate) out_of_memory: watch::Receiver<u64>,
}

struct Expected {
    exit: watch::Sender<Option<Exit>>,
    out_of_memory: watch::Sender<u64>,
}

impl Events {
    /// Of a process about to be made.
    pub(crate) fn expect(&self, container_id: &str, exec_id: &str) -> Told {
        let key = ProcessKey { container_id: container_id.to_owned(), exec_id: exec_id.to_owned() };
        let (exit, exit_told) = watch::channel(None);
        let (out_of_memory, out_of_memory_told) = watch::channel(0);
        self.lock().insert(key, Expected { exit, out_of_memory });
        Told { exit: exit_told, out_of_memory: out_of_memory_told }
    }

    /// Takes in events until their stream ends.
    pub(crate) async fn follow(self, mut stream: EventStream) {
        while let Ok(event) = stream.next().await {
            match event {
                event::Kind::Exit(exit) => self.exited(exit),
                event::Kind::OutOfMemory(out) => self.ran_out_of_memory(&out.container_id),
                _ => {}
            }
        }
        // Whoever still waits learns that no exit will come.
        self.lock().clear();
    }

    fn exited(&self, exit: agent::Exit) {
        let key = ProcessKey { container_id: exit.container_id.clone(), exec_id: exit.exec_id.clone() };
        if let Some(expected) = self.lock().remove(&key) {
            expected.exit.send_replace(Some(Exit::from_agent(&exit)));
        }
    }

    fn ran_out_of_memory(&self, container_id: &str) {
        let expected = self.lock();
        for (_, process) in expected.iter().filter(|(key, _)| key.container_id == container_id) {
            process.out_of_memory.send_modify(|times| *times = times.saturating_add(1));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ProcessKey, Expected>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
