//! The streams the host opens for the stdio of processes.
//!
//! A stream is a connection that begins with its id; a process claims its streams by id. Either may come first.
//! What waits for its other half is bounded, in number and in time, so that nobody can pile up connections.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent_api::stream_header;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::descriptor::Descriptor;
use crate::log;

/// How long a connection may take to say its id, wait to be claimed, or a claim to be met.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections that may wait to be claimed at one time.
const MAX_UNCLAIMED: usize = 256;

/// Why a process does not get a stream.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    #[error("the host did not open stream {0}")]
    NotOpened(u64),
    #[error("stream {0} is asked for twice")]
    AskedTwice(u64),
}

/// The meeting place of connections and the processes that claim them.
#[derive(Clone, Default)]
pub struct Streams {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    unclaimed: HashMap<u64, OwnedFd>,
    awaited: HashMap<u64, oneshot::Sender<OwnedFd>>,
}

impl Streams {
    /// Takes in a connection the host made; its header is read in the background.
    pub fn admit(&self, connection: OwnedFd) {
        let streams = self.clone();
        tokio::spawn(async move {
            match timeout(PATIENCE, read_header(connection)).await {
                Ok(Ok((id, connection))) => streams.offer(id, connection).await,
                Ok(Err(error)) => log::warn(format_args!("stream dropped: {error}")),
                Err(_) => log::warn("stream dropped: it did not say its id"),
            }
        });
    }

    /// The connection of stream `id`, as soon as the host has opened it.
    pub async fn claim(&self, id: u64) -> Result<OwnedFd, ClaimError> {
        let arrival = {
            let mut state = self.lock();
            if let Some(connection) = state.unclaimed.remove(&id) {
                return Ok(connection);
            }
            if state.awaited.contains_key(&id) {
                return Err(ClaimError::AskedTwice(id));
            }
            let (sender, receiver) = oneshot::channel();
            state.awaited.insert(id, sender);
            receiver
        };
        let connection = timeout(PATIENCE, arrival).await;
        self.lock().awaited.remove(&id);
        match connection {
            Ok(Ok(connection)) => Ok(connection),
            _ => Err(ClaimError::NotOpened(id)),
        }
    }

    async fn offer(&self, id: u64, connection: OwnedFd) {
        {
            let mut state = self.lock();
            let connection = match state.awaited.remove(&id) {
                Some(claim) => match claim.send(connection) {
                    Ok(()) => return,
                    Err(unwanted) => unwanted,
                },
                None => connection,
            };
            if state.unclaimed.len() >= MAX_UNCLAIMED || state.unclaimed.contains_key(&id) {
                log::warn(format_args!("stream {id} dropped: too many wait, or its id is taken"));
                return;
            }
            state.unclaimed.insert(id, connection);
        }
        sleep(PATIENCE).await;
        self.lock().unclaimed.remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads exactly the header, leaving what follows to the process.
async fn read_header(connection: OwnedFd) -> io::Result<(u64, OwnedFd)> {
    let connection = Descriptor::new(connection)?;
    let mut header = [0; stream_header::LEN];
    let mut filled = 0;
    while let Some(rest) = header.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let read = connection.read(rest).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += read;
    }
    Ok((stream_header::decode(header), connection.into_inner()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn open(streams: &Streams, id: u64) -> UnixStream {
        let (mut host, guest) = UnixStream::pair().unwrap();
        host.write_all(&stream_header::encode(id)).unwrap();
        streams.admit(guest.into());
        host
    }

    fn read(stream: OwnedFd) -> Vec<u8> {
        let mut stream = UnixStream::from(stream);
        stream.set_nonblocking(false).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_meets_its_claim_whichever_comes_first() {
        let streams = Streams::default();
        let mut early = open(&streams, 1);
        early.write_all(b"early").unwrap();
        drop(early);
        let (late, early) = tokio::join!(streams.claim(2), async {
            tokio::task::yield_now().await;
            let mut late = open(&streams, 2);
            late.write_all(b"late").unwrap();
            drop(late);
            streams.claim(1).await
        });
        assert_eq!(read(early.unwrap()), b"early");
        assert_eq!(read(late.unwrap()), b"late");
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_nobody_meets_is_refused_in_time() {
        let streams = Streams::default();
        assert!(matches!(streams.claim(3).await, Err(ClaimError::NotOpened(3))));
    }

    #[tokio::test(start_paused = true)]
    async fn connections_nobody_claims_are_closed() {
        let streams = Streams::default();
        let mut waiting = open(&streams, 1);
        sleep(PATIENCE * 2).await;
        assert_eq!(waiting.read(&mut [0]).unwrap(), 0);
        assert!(matches!(streams.claim(1).await, Err(ClaimError::NotOpened(1))));
    }
}
