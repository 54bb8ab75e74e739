//! What the agent tells its supervisor unasked: that it is ready, exits, memory kills.
//!
//! Actors put events into a bounded queue; one task owns the connection. A connection that ends (as it does when
//! the guest is restored from a template) is made again at once, opened with Ready, and the event that was on its
//! way is sent once more: a supervisor may see an event twice, and never misses one.

use std::future::Future;
use std::io;
use std::time::Duration;

use agent_api::agent::{Event, Exit, OutOfMemory, Ready};
use agent_api::event_frame;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;

use crate::descriptor::Descriptor;
use crate::{error_chain, log, transport};

const QUEUE_LEN: usize = 256;
const RECONNECT_AFTER: Duration = Duration::from_millis(100);

/// Takes the events of all actors. When the supervisor does not read, whoever sends waits.
#[derive(Clone)]
pub struct Events {
    queue: mpsc::Sender<Event>,
}

/// The other end of [`Events`], for [`deliver`].
pub struct EventQueue {
    queue: mpsc::Receiver<Event>,
}

/// An empty queue of events.
pub fn queue() -> (Events, EventQueue) {
    let (sender, receiver) = mpsc::channel(QUEUE_LEN);
    (Events { queue: sender }, EventQueue { queue: receiver })
}

#[cfg(test)]
impl EventQueue {
    /// The next event that would be delivered.
    pub(crate) async fn next(&mut self) -> Event {
        self.queue.recv().await.unwrap_or_default()
    }
}

impl Events {
    /// A process has ended and its output is drained.
    pub async fn exit(&self, exit: Exit) {
        let mut event = Event::new();
        event.set_exit(exit);
        self.send(event).await;
    }

    /// The kernel killed a process of the container for want of memory.
    pub async fn out_of_memory(&self, container_id: &str) {
        let mut event = Event::new();
        event.set_out_of_memory(OutOfMemory { container_id: container_id.to_owned(), ..Default::default() });
        self.send(event).await;
    }

    async fn send(&self, event: Event) {
        // Fails only when the delivering task is gone, and with it whoever could have listened.
        let _ = self.queue.send(event).await;
    }
}

/// What events travel over.
pub(crate) trait Connection {
    async fn write_all(&self, bytes: &[u8]) -> io::Result<()>;
    /// Waits for the connection's end: the host says nothing here.
    async fn ended(&self) -> io::Error;
}

impl Connection for Descriptor {
    async fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        Self::write_all(self, bytes).await
    }

    async fn ended(&self) -> io::Error {
        Self::ended(self).await
    }
}

/// Delivers events for ever to the supervisor.
pub async fn deliver(events: EventQueue) {
    deliver_over_each(events, transport::connect_events).await;
}

/// Delivers events for ever over connections made by `connect`, each opened with Ready.
async fn deliver_over_each<C, F, S>(mut events: EventQueue, connect: C)
where
    C: Fn() -> F,
    F: Future<Output = io::Result<S>>,
    S: Connection,
{
    let mut undelivered = None;
    loop {
        match connect().await {
            Ok(connection) => {
                let error = deliver_over(&connection, &mut events, &mut undelivered).await;
                log::warn(format_args!("event connection lost: {error}"));
            }
            Err(error) => {
                log::warn(format_args!("cannot connect to the supervisor: {error}"));
                tokio::time::sleep(RECONNECT_AFTER).await;
            }
        }
    }
}

/// Why the connection is of no more use.
async fn deliver_over(
    connection: &impl Connection,
    events: &mut EventQueue,
    undelivered: &mut Option<Event>,
) -> io::Error {
    if let Err(error) = write(connection, &ready()).await {
        return error;
    }
    loop {
        let event = match undelivered.take() {
            Some(event) => event,
            None => tokio::select! {
                // Each actor has a sender, and so has who makes them: there is always one.
                Some(event) = events.queue.recv() => event,
                error = connection.ended() => return error,
            },
        };
        if let Err(error) = write(connection, &event).await {
            *undelivered = Some(event);
            return error;
        }
    }
}

async fn write(connection: &impl Connection, event: &Event) -> io::Result<()> {
    match event_frame::encode(event) {
        Ok(frame) => connection.write_all(&frame).await,
        Err(error) => {
            log::warn(error_chain::describe(&error));
            Ok(())
        }
    }
}

fn ready() -> Event {
    let since_boot = clock_gettime(ClockId::Boottime);
    let since_boot_ns =
        since_boot.tv_sec.cast_unsigned() * 1_000_000_000 + since_boot.tv_nsec.cast_unsigned();
    let mut event = Event::new();
    event.set_ready(Ready { since_boot_ns, ..Default::default() });
    event
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use agent_api::event_frame::Decoder;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};

    use super::*;

    struct Guest {
        from_host: tokio::sync::Mutex<ReadHalf<DuplexStream>>,
        to_host: tokio::sync::Mutex<WriteHalf<DuplexStream>>,
    }

    impl Guest {
        fn new(stream: DuplexStream) -> Self {
            let (from_host, to_host) = split(stream);
            Self { from_host: from_host.into(), to_host: to_host.into() }
        }
    }

    impl Connection for Guest {
        async fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
            self.to_host.lock().await.write_all(bytes).await
        }

        async fn ended(&self) -> io::Error {
            let _ = self.from_host.lock().await.read(&mut [0]).await;
            io::ErrorKind::ConnectionReset.into()
        }
    }

    async fn next(host: &mut DuplexStream, decoder: &mut Decoder) -> Event {
        loop {
            if let Some(event) = decoder.next_event().unwrap() {
                return event;
            }
            let mut byte = [0];
            host.read_exact(&mut byte).await.unwrap();
            decoder.feed(&byte);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_connection_is_made_again_and_opens_with_ready() {
        let (first_host, first_guest) = duplex(1024);
        let (mut second_host, second_guest) = duplex(1024);
        let connections = Mutex::new(vec![Guest::new(second_guest), Guest::new(first_guest)]);
        let (events, queue) = queue();
        let connect = || {
            let next = connections.lock().unwrap().pop();
            async { next.ok_or_else(|| io::ErrorKind::ConnectionRefused.into()) }
        };
        let host = async {
            let mut first_host = first_host;
            assert!(next(&mut first_host, &mut Decoder::default()).await.has_ready());
            drop(first_host);
            let mut decoder = Decoder::default();
            assert!(next(&mut second_host, &mut decoder).await.has_ready(), "without an event to send");
            events.exit(Exit { container_id: "c".to_owned(), code: 7, ..Default::default() }).await;
            assert_eq!(next(&mut second_host, &mut decoder).await.exit().code, 7);
        };
        tokio::select! {
            () = deliver_over_each(queue, connect) => unreachable!("delivery never ends"),
            () = host => {}
        }
    }
}
