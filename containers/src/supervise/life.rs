//! What happens to a container while this process keeps it: one run, or by its restart policy several.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use sandbox::local_socket::LocalListener;
use sandbox::{AsyncControl, ProcessId, Streams, TerminalSize};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use super::Host;
use super::clients::{Clients, Starter, Wish};
use super::streams::Attached;
use crate::container::Container;
use crate::containers::Claimed;
use crate::events::Action;
use crate::log::Writer;
use crate::protocol::{Ended, Failure, SOCKET, Wiring};
use crate::restart::Restarts;
use crate::status::{State, Status};

/// A terminal's size where nobody has said one, as of old.
const DEFAULT_SIZE: TerminalSize = TerminalSize { rows: 24, columns: 80 };

/// A container and all that this process has for it.
pub(super) struct Life<'a> {
    pub(super) host: &'a Host<'a>,
    pub(super) container: Container,
    lock: OwnedFd,
    clients: Clients,
    pub(super) attached: Attached,
    pub(super) wishes: mpsc::Receiver<Wish>,
    pub(super) log: Arc<Mutex<Writer>>,
    /// Who started it, until it knows how that went.
    starter: Option<oneshot::Sender<Result<(), Failure>>>,
    timed: bool,
    pub(super) size: TerminalSize,
    /// Somebody wants the container to end for good.
    pub(super) stopping: bool,
    /// The host's way to ask this process to end.
    pub(super) terminate: Signal,
}

/// What a supervisor is handed.
pub(super) struct HandedOver {
    pub(super) container: Container,
    pub(super) lock: OwnedFd,
    pub(super) listener: LocalListener,
    pub(super) connection: AsyncControl,
    /// Streams of who started it.
    pub(super) wired: Option<(Wiring, Streams)>,
    pub(super) timed: bool,
}

impl<'a> Life<'a> {
    pub(super) fn begin(host: &'a Host<'a>, handed_over: HandedOver) -> io::Result<Self> {
        let HandedOver { mut container, lock, listener, connection, wired, timed } = handed_over;
        let supervisor = ProcessId::of(std::process::id())?;
        container.update(|status| {
            *status = Status { supervisor: Some(supervisor), ..status.clone() };
        })?;
        let log = Writer::open(container.directory(), container.config().log)?;
        let attached = Attached::new();
        let size = wired.as_ref().and_then(|(wiring, _)| wiring.terminal).map_or(DEFAULT_SIZE, Into::into);
        let (starter, started) = oneshot::channel();
        let starting = Starter { connection, wired: wired.is_some(), started };
        attached.join(wired.map(|(_, streams)| streams).unwrap_or_default());
        let (clients, wishes) = Clients::serve(listener, starting, attached.clone());
        Ok(Self {
            host,
            container,
            lock,
            clients,
            attached,
            wishes,
            log: Arc::new(Mutex::new(log)),
            starter: Some(starter),
            timed,
            size,
            stopping: false,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Until the container has ended for good, and everyone knows.
    pub(super) async fn live(mut self) {
        let mut restarts = Restarts::default();
        loop {
            let begun = Instant::now();
            let (ended, remains) = match self.run().await {
                Ok(ended) => ended,
                Err(failure) => return self.failed(failure).await,
            };
            self.note(Action::Die, &[("exitCode", &ended.code.to_string())]);
            if self.stopping {
                self.note(Action::Stop, &[]);
            }
            let policy = self.container.config().restart;
            let pause = if self.stopping { None } else { restarts.next(policy, ended.code, begun.elapsed()) };
            let state = if pause.is_some() { State::Restarting } else { State::Exited };
            self.set(|status| {
                status.state = state;
                status.exit_code = ended.code;
                status.out_of_memory = ended.out_of_memory;
                status.error.clone_from(&ended.error);
                status.finished = Some(Timestamp::now());
                status.restarts = restarts.count();
                status.health = None;
            });
            let Some(pause) = pause else {
                self.finish(ended, None).await;
                return remains.clear_away().await;
            };
            self.clients.tell(ended.clone());
            remains.clear_away().await;
            if self.stopped_within(pause).await {
                self.set(|status| status.state = State::Exited);
                return self.finish(ended, None).await;
            }
        }
    }

    /// The command runs.
    pub(super) fn running(&mut self) {
        self.note(Action::Start, &[]);
        let health = self.container.config().health.as_ref().map(|_| Default::default());
        self.set(|status| {
            let Status { supervisor, restarts, .. } = *status;
            let started = Some(Timestamp::now());
            *status =
                Status { state: State::Running, supervisor, restarts, started, health, ..Status::default() };
        });
        if let Some(starter) = self.starter.take() {
            // Gone, it need not know.
            let _ = starter.send(Ok(()));
        }
    }

    /// Says how the container is. Where that cannot be written, it is as if this process had crashed: the next
    /// command finds out.
    pub(super) fn set(&mut self, change: impl FnOnce(&mut Status)) {
        let _ = self.container.update(change);
    }

    pub(super) fn note(&self, action: Action, attributes: &[(&str, &str)]) {
        self.host.containers.events().note(&self.container.named_by_now(), action, attributes);
    }

    pub(super) fn end(&self, code: u8) -> Ended {
        let stamps = if self.timed { self.host.timeline.stamps() } else { Vec::new() };
        Ended { code, stamps, ..Ended::default() }
    }

    /// A start came to nothing; another run than the first is not tried again either.
    async fn failed(mut self, failure: Failure) {
        self.set(|status| {
            if status.state != State::Created {
                status.state = State::Exited;
                status.finished = Some(Timestamp::now());
            }
            status.exit_code = failure.code;
            status.error.clone_from(&failure.message);
        });
        let ended = Ended { error: failure.message.clone(), ..self.end(failure.code) };
        self.finish(ended, Some(failure)).await;
    }

    /// Lets go of the container, then says so.
    async fn finish(mut self, ended: Ended, failure: Option<Failure>) {
        self.set(|status| status.supervisor = None);
        let Self { container, lock, mut clients, starter, host, wishes, .. } = self;
        // Who asked for something since the end is refused, instead of waiting for it and missing the last word.
        drop(wishes);
        let container = container.named_by_now();
        if container.config().auto_remove {
            // Broken off, it is gone on with by the next command.
            let _ = host.containers.remove(Claimed { container, lock: lock.into() });
        } else {
            let _ = std::fs::remove_file(container.directory().join(SOCKET));
            drop(lock);
        }
        clients.close();
        if let (Some(starter), Some(failure)) = (starter, failure) {
            let _ = starter.send(Err(failure));
        }
        clients.last_words(ended).await;
    }

    /// Whether somebody wants the end while the next run is waited for.
    async fn stopped_within(&mut self, pause: Duration) -> bool {
        let over = sleep(pause);
        tokio::pin!(over);
        loop {
            tokio::select! {
                biased;
                Some(wish) = self.wishes.recv() => match wish {
                    Wish::Stop { .. } => return true,
                    Wish::Resize(size) | Wish::Attached(Some(size)) => self.size = size,
                    // Without a run, there is nothing to do it to: not answered is refused.
                    Wish::Signal { .. }
                    | Wish::Pause(_)
                    | Wish::Unpause(_)
                    | Wish::Snapshot { .. }
                    | Wish::Attached(None) => {}
                },
                _ = self.terminate.recv() => return true,
                () = &mut over => return false,
            }
        }
    }
}
