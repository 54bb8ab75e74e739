//! Tells containerd what happens to tasks: in order, each once, also when containerd is away for a while.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use containerd_shim_protos::api::ForwardRequest;
use containerd_shim_protos::events::task::{
    TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskOOM, TaskPaused, TaskResumed,
    TaskStart,
};
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim_async::EventsClient;
use containerd_shim_protos::topics;
use protobuf::well_known_types::any::Any;
use protobuf::{Message, MessageField};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use ttrpc::r#async::Client;
use ttrpc::r#async::transport::Socket;
use ttrpc::context;

use crate::log;
use crate::timestamp::timestamp;

/// Events kept while containerd does not take them; then the oldest goes.
const MAX_WAITING: usize = 2048;

/// How long containerd may take for one.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often one is offered that containerd refuses.
const MAX_REFUSALS: u32 = 5;

/// Between two tries, the first and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How an event travels: by this name of its kind, under this topic.
pub(crate) trait Event: Message {
    const KIND: &'static str;
    const TOPIC: &'static str;
}

macro_rules! events {
    ($($event:ident: $topic:ident,)*) => {$(
        impl Event for $event {
            const KIND: &'static str = concat!("containerd.events.", stringify!($event));
            const TOPIC: &'static str = topics::$topic;
        }
    )*};
}

events! {
    TaskCreate: TASK_CREATE_EVENT_TOPIC,
    TaskStart: TASK_START_EVENT_TOPIC,
    TaskExit: TASK_EXIT_EVENT_TOPIC,
    TaskDelete: TASK_DELETE_EVENT_TOPIC,
    TaskOOM: TASK_OOM_EVENT_TOPIC,
    TaskExecAdded: TASK_EXEC_ADDED_EVENT_TOPIC,
    TaskExecStarted: TASK_EXEC_STARTED_EVENT_TOPIC,
    TaskPaused: TASK_PAUSED_EVENT_TOPIC,
    TaskResumed: TASK_RESUMED_EVENT_TOPIC,
}

/// Takes events; whoever has a clone adds to the same ones.
#[derive(Clone)]
pub(crate) struct Events(Arc<Queue>);

struct Queue {
    namespace: String,
    waiting: Mutex<VecDeque<Envelope>>,
    added: Notify,
    emptied: Notify,
}

/// Where events go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    /// containerd's ttrpc socket.
    Socket(PathBuf),
    /// A program is run for each: containerd's own, for shims that know no ttrpc socket.
    Program { path: PathBuf, address: String },
}

#[derive(Debug, thiserror::Error)]
enum ForwardError {
    /// It may take it another time.
    #[error("cannot reach containerd")]
    Away(#[source] io::Error),
    #[error("containerd refused the event")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Destination {
    /// By what `TTRPC_ADDRESS` says, with or without a scheme; or else containerd's program.
    pub(crate) fn of(ttrpc_address: Option<&str>, program: PathBuf, address: String) -> Self {
        match ttrpc_address.filter(|address| !address.is_empty()) {
            Some(address) => Self::Socket(address.strip_prefix("unix://").unwrap_or(address).into()),
            None => Self::Program { path: program, address },
        }
    }
}

impl Events {
    pub(crate) fn new(namespace: String) -> Self {
        Self(Arc::new(Queue {
            namespace,
            waiting: Mutex::default(),
            added: Notify::new(),
            emptied: Notify::new(),
        }))
    }

    pub(crate) fn publish<E: Event>(&self, event: &E) {
        let value = match event.write_to_bytes() {
            Ok(value) => value,
            Err(error) => return log::error(format_args!("cannot encode an event: {error}")),
        };
        let envelope = Envelope {
            timestamp: MessageField::some(timestamp(SystemTime::now())),
            namespace: self.0.namespace.clone(),
            topic: E::TOPIC.to_owned(),
            event: MessageField::some(Any { type_url: E::KIND.to_owned(), value, ..Default::default() }),
            ..Default::default()
        };
        let mut waiting = self.waiting();
        let full = waiting.len() == MAX_WAITING;
        if full && let Some(lost) = waiting.pop_front() {
            log::error(format_args!("containerd takes no events: one of {} is lost", lost.topic));
        }
        waiting.push_back(envelope);
        drop(waiting);
        self.0.added.notify_one();
    }

    /// Sends events on, forever.
    pub(crate) async fn forward(self, destination: Destination) {
        let mut client = None;
        loop {
            let Some(envelope) = self.first() else {
                self.0.emptied.notify_waiters();
                self.0.added.notified().await;
                continue;
            };
            deliver(&envelope, &destination, &mut client).await;
            self.remove_first(&envelope);
        }
    }

    /// Waits until all are sent on, but no longer than `limit`.
    pub(crate) async fn sent(&self, limit: Duration) {
        let all = async {
            loop {
                let emptied = self.0.emptied.notified();
                if self.waiting().is_empty() {
                    return;
                }
                emptied.await;
            }
        };
        if timeout(limit, all).await.is_err() {
            log::error(format_args!("containerd did not take the last events"));
        }
    }

    fn first(&self) -> Option<Envelope> {
        self.waiting().front().cloned()
    }

    /// Unless it had to make place meanwhile.
    fn remove_first(&self, sent: &Envelope) {
        let mut waiting = self.waiting();
        if waiting.front() == Some(sent) {
            waiting.pop_front();
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, VecDeque<Envelope>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn topics(&self) -> Vec<String> {
        self.waiting().iter().map(|envelope| envelope.topic.clone()).collect()
    }

    #[cfg(test)]
    pub(crate) fn exits(&self) -> Vec<TaskExit> {
        let waiting = self.waiting();
        let exits = waiting.iter().filter(|envelope| envelope.topic == TaskExit::TOPIC);
        exits.map(|envelope| TaskExit::parse_from_bytes(&envelope.event.value).unwrap()).collect()
    }
}

/// Tries until it is taken, or has been refused too often.
async fn deliver(envelope: &Envelope, destination: &Destination, client: &mut Option<EventsClient>) {
    let mut pause = FIRST_PAUSE;
    let mut refusals = 0;
    loop {
        let error = match destination {
            Destination::Socket(path) => forward(envelope, path, client).await,
            Destination::Program { path, address } => publish(envelope, path, address).await,
        };
        match error {
            Ok(()) => return,
            Err(ForwardError::Away(_)) => {}
            Err(ForwardError::Refused(error)) => {
                refusals += 1;
                if refusals == MAX_REFUSALS {
                    log::error(format_args!("an event of {} is lost: {error}", envelope.topic));
                    return;
                }
            }
        }
        sleep(pause).await;
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}

async fn forward(
    envelope: &Envelope,
    path: &PathBuf,
    client: &mut Option<EventsClient>,
) -> Result<(), ForwardError> {
    let connected = match client {
        Some(client) => client.clone(),
        None => {
            let stream = UnixStream::connect(path).await.map_err(ForwardError::Away)?;
            client.insert(EventsClient::new(Client::new(Socket::from(stream)))).clone()
        }
    };
    let request = ForwardRequest { envelope: MessageField::some(envelope.clone()), ..Default::default() };
    let mut context = context::with_duration(PATIENCE);
    context.set("containerd-namespace-ttrpc".to_owned(), vec![envelope.namespace.clone()]);
    match connected.forward(context, &request).await {
        Ok(_) => Ok(()),
        Err(ttrpc::Error::RpcStatus(status)) => Err(ForwardError::Refused(status.message.into())),
        Err(error) => {
            *client = None;
            Err(ForwardError::Away(io::Error::other(error)))
        }
    }
}

async fn publish(envelope: &Envelope, program: &PathBuf, address: &str) -> Result<(), ForwardError> {
    let refused = |error: io::Error| ForwardError::Refused(error.into());
    let event = envelope.event.write_to_bytes().map_err(|error| refused(io::Error::other(error)))?;
    let mut child = tokio::process::Command::new(program)
        .args(["--address", address, "publish", "--topic", &envelope.topic])
        .args(["--namespace", &envelope.namespace])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(refused)?;
    if let Some(mut stdin) = child.stdin.take() {
        // Whether it could be written shows in how the program ends.
        let _ = stdin.write_all(&event).await;
    }
    let status = child.wait().await.map_err(refused)?;
    match status.success() {
        true => Ok(()),
        false => Err(refused(io::Error::other(format!("{} ended with {status}", program.display())))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use async_trait::async_trait;
    use containerd_shim_protos::shim_async::create_events;
    use protobuf::well_known_types::empty::Empty;
    use tokio::sync::mpsc;
    use ttrpc::r#async::{Server, Service};
    use ttrpc::asynchronous::TtrpcContext;

    use super::*;

    struct Containerd(mpsc::UnboundedSender<Envelope>);

    #[async_trait]
    impl containerd_shim_protos::shim_async::Events for Containerd {
        async fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
            self.0.send(request.envelope.unwrap()).unwrap();
            Ok(Empty::new())
        }
    }

    fn service(taken: mpsc::UnboundedSender<Envelope>) -> HashMap<String, Service> {
        create_events(Arc::new(Containerd(taken)))
    }

    fn started(id: &str) -> TaskStart {
        TaskStart { container_id: id.to_owned(), pid: 7, ..Default::default() }
    }

    fn id(envelope: &Envelope) -> String {
        TaskStart::parse_from_bytes(&envelope.event.value).unwrap().container_id
    }

    #[tokio::test]
    async fn events_wait_for_containerd_and_arrive_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ttrpc");
        let address = format!("unix://{}", path.display());
        let events = Events::new("default".to_owned());
        for name in ["a", "b"] {
            events.publish(&started(name));
        }
        let destination = Destination::of(path.to_str(), PathBuf::new(), String::new());
        let forwarding = tokio::spawn(events.clone().forward(destination));
        let (taken, mut arrived) = mpsc::unbounded_channel();
        let mut server = Server::new().bind(&address).unwrap().register_service(service(taken.clone()));
        server.start().await.unwrap();
        let first = arrived.recv().await.unwrap();
        assert_eq!(
            (id(&first), first.namespace.as_str(), first.topic.as_str()),
            ("a".into(), "default", "/tasks/start")
        );
        assert_eq!(first.event.type_url, "containerd.events.TaskStart");
        assert_eq!(id(&arrived.recv().await.unwrap()), "b");

        // containerd restarts.
        server.shutdown().await.unwrap();
        std::fs::remove_file(&path).unwrap();
        events.publish(&started("c"));
        let mut server = Server::new().bind(&address).unwrap().register_service(service(taken));
        server.start().await.unwrap();
        assert_eq!(id(&arrived.recv().await.unwrap()), "c");
        events.sent(Duration::from_secs(60)).await;
        assert!(events.topics().is_empty());
        forwarding.abort();
    }

    #[test]
    fn no_more_are_kept_than_there_is_place_for() {
        let events = Events::new("default".to_owned());
        for number in 0..=MAX_WAITING {
            events.publish(&started(&number.to_string()));
        }
        assert_eq!(events.topics().len(), MAX_WAITING);
        assert_eq!(id(&events.first().unwrap()), "1");
    }

    #[tokio::test]
    async fn without_a_socket_containerds_program_is_asked() {
        let directory = tempfile::tempdir().unwrap();
        let (program, said) = (directory.path().join("publish"), directory.path().join("said"));
        std::fs::write(&program, format!("#!/bin/sh\ncat > {0}.event\necho \"$@\" > {0}\n", said.display()))
            .unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let events = Events::new("n".to_owned());
        events.publish(&started("a"));
        let destination = Destination::of(None, program, "/run/c.sock".to_owned());
        let forwarding = tokio::spawn(events.clone().forward(destination));
        events.sent(Duration::from_secs(60)).await;
        let line = std::fs::read_to_string(&said).unwrap();
        assert_eq!(line.trim(), "--address /run/c.sock publish --topic /tasks/start --namespace n");
        let event = Any::parse_from_bytes(&std::fs::read(said.with_extension("event")).unwrap()).unwrap();
        assert_eq!(event.type_url, "containerd.events.TaskStart");
        forwarding.abort();
    }
}
