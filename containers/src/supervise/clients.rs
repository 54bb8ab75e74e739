//! The connections to a supervisor, each with a task of its own.

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sandbox::local_socket::LocalListener;
use sandbox::{AsyncControl, TerminalSize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::streams::Attached;
use crate::config::StopTimeout;
use crate::log::Stream;
use crate::protocol::{Ended, Failure, Reply, Request};
use crate::wires::Wires;

/// Requests of clients the supervisor has not got to yet.
const INBOX: usize = 32;

/// Between a failure to accept and the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long clients may take to be told of the end.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What a client wants of the container.
#[derive(Debug)]
pub(super) enum Wish {
    Signal {
        signal: u32,
        answer: Answer,
    },
    Resize(TerminalSize),
    Stop {
        signal: Option<u32>,
        timeout: Option<StopTimeout>,
    },
    Pause(Answer),
    Unpause(Answer),
    /// Fills the directory with a copy of the sandbox.
    Snapshot {
        directory: PathBuf,
        answer: Answer<Duration>,
    },
    /// Somebody attached streams, at a terminal of that size.
    Attached(Option<TerminalSize>),
}

/// Takes whether it was done, or why not.
pub(super) type Answer<T = ()> = oneshot::Sender<Result<T, String>>;

/// Who started the container, and is told when its command runs.
pub(super) struct Starter {
    pub(super) connection: AsyncControl,
    pub(super) wired: bool,
    pub(super) started: oneshot::Receiver<Result<(), Failure>>,
}

/// All connections, now and to come.
pub(super) struct Clients {
    serving: JoinHandle<()>,
    ends: watch::Sender<Option<Arc<Ended>>>,
    /// Dropped, nobody more is let in.
    open: Option<oneshot::Sender<Infallible>>,
}

/// One of them.
struct Client {
    connection: AsyncControl,
    attached: Attached,
    wishes: mpsc::Sender<Wish>,
    ends: watch::Receiver<Option<Arc<Ended>>>,
    /// It wants to know when the run ends.
    waits: bool,
}

impl Clients {
    /// Serves who started the container, and whoever connects. What they want comes from the receiver.
    pub(super) fn serve(
        listener: LocalListener,
        starter: Starter,
        attached: Attached,
    ) -> (Self, mpsc::Receiver<Wish>) {
        let (wishes, wished) = mpsc::channel(INBOX);
        let ends = watch::Sender::new(None);
        let (open, closing) = oneshot::channel();
        let subscriber = ends.clone();
        let client = move |connection, waits| Client {
            connection,
            attached: attached.clone(),
            wishes: wishes.clone(),
            ends: subscriber.subscribe(),
            waits,
        };
        let mut connections = JoinSet::new();
        let Starter { connection, wired, started } = starter;
        connections.spawn(client(connection, wired).serve_starter(started));
        let serving =
            tokio::spawn(accept(listener, closing, connections, move |connection| client(connection, false)));
        (Self { serving, ends, open: Some(open) }, wished)
    }

    /// Tells who waits that a run has ended.
    pub(super) fn tell(&self, ended: Ended) {
        self.ends.send_replace(Some(Arc::new(ended)));
    }

    /// Lets nobody more in.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// Tells who waits of the last end, and closes all connections.
    pub(super) async fn last_words(mut self, ended: Ended) {
        self.close();
        self.tell(ended);
        drop(self.ends);
        // One that is not told in time sees its connection close.
        let _ = timeout(LAST_WORDS, self.serving).await;
    }
}

async fn accept(
    listener: LocalListener,
    mut closing: oneshot::Receiver<Infallible>,
    mut connections: JoinSet<()>,
    client: impl Fn(AsyncControl) -> Client,
) {
    loop {
        tokio::select! {
            biased;
            _ = &mut closing => break,
            accepted = listener.accept() => match accepted {
                Ok(connection) => drop(connections.spawn(client(connection).serve())),
                // Most likely out of descriptors for a while; the client waits in the backlog.
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop((listener, client));
    while connections.join_next().await.is_some() {}
}

impl Client {
    /// First of all it is told how the start went.
    async fn serve_starter(mut self, started: oneshot::Receiver<Result<(), Failure>>) {
        tokio::pin!(started);
        loop {
            tokio::select! {
                biased;
                result = &mut started => {
                    let reply = match result {
                        Ok(Ok(())) => Reply::Done,
                        Ok(Err(failure)) => Reply::Failed(failure),
                        Err(_) => return,
                    };
                    if self.reply(reply).await {
                        self.serve().await;
                    }
                    return;
                }
                received = self.connection.receive() => match received {
                    Ok((request, descriptors)) => if !self.take(request, descriptors).await { return },
                    // It was killed: the container goes on without it.
                    Err(_) => return,
                },
            }
        }
    }

    async fn serve(mut self) {
        loop {
            tokio::select! {
                biased;
                changed = self.ends.changed() => {
                    let ended = self.ends.borrow_and_update().clone();
                    match (changed, ended) {
                        (Ok(()), Some(ended)) if self.waits => {
                            self.waits = false;
                            if !self.reply(Reply::Ended(Ended::clone(&ended))).await { return }
                        }
                        (Ok(()), _) => {}
                        (Err(_), _) => return,
                    }
                }
                received = self.connection.receive() => match received {
                    Ok((request, descriptors)) => if !self.take(request, descriptors).await { return },
                    Err(_) => return,
                },
            }
        }
    }

    /// Does what it asks for; `false` when nothing more can be done for it.
    async fn take(&mut self, request: Request, descriptors: Vec<OwnedFd>) -> bool {
        match request {
            // Only who started the process says what it is to start.
            Request::Start { .. } => false,
            Request::Attach { wiring } => {
                let Ok(streams) = Wires::received(&wiring, descriptors) else { return false };
                self.waits = true;
                // Told first: what it is sent from then on, it expects.
                let told = self.reply(Reply::Done).await;
                self.attached.join(streams);
                told && self.wish(Wish::Attached(wiring.terminal.map(TerminalSize::from))).await
            }
            Request::Wait => {
                self.waits = true;
                true
            }
            Request::Stop { signal, timeout } => {
                self.waits = true;
                self.wish(Wish::Stop { signal, timeout }).await
            }
            Request::Resize { rows, columns } => {
                self.wish(Wish::Resize(TerminalSize { rows, columns })).await
            }
            Request::Unread { stderr } => {
                self.attached.unread(if stderr { Stream::Stderr } else { Stream::Stdout });
                true
            }
            Request::Signal { signal } => self.ask(|answer| Wish::Signal { signal, answer }).await,
            Request::Pause => self.ask(Wish::Pause).await,
            Request::Unpause => self.ask(Wish::Unpause).await,
            Request::Snapshot { directory } => {
                let copied = |stood: Duration| Reply::Copied {
                    stood: u64::try_from(stood.as_nanos()).unwrap_or(u64::MAX),
                };
                self.ask_for(|answer| Wish::Snapshot { directory, answer }, copied).await
            }
        }
    }

    async fn wish(&self, wish: Wish) -> bool {
        self.wishes.send(wish).await.is_ok()
    }

    async fn ask(&self, wish: impl FnOnce(Answer) -> Wish) -> bool {
        self.ask_for(wish, |()| Reply::Done).await
    }

    async fn ask_for<T>(&self, wish: impl FnOnce(Answer<T>) -> Wish, reply: impl FnOnce(T) -> Reply) -> bool {
        let (answer, answered) = oneshot::channel();
        self.wish(wish(answer)).await
            && match answered.await {
                Ok(Ok(done)) => self.reply(reply(done)).await,
                Ok(Err(message)) => self.reply(Reply::Refused(message)).await,
                Err(_) => self.reply(Reply::Refused("it is not running".to_owned())).await,
            }
    }

    async fn reply(&self, reply: Reply) -> bool {
        self.connection.send(&reply, &[]).await.is_ok()
    }
}
