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
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::{error_chain, log};

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

/// Delivers events for ever over connections made by `connect`, each opened with Ready.
pub async fn deliver<C, F, S>(mut events: EventQueue, connect: C)
where
    C: Fn() -> F,
    F: Future<Output = io::Result<S>>,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut undelivered = None;
    loop {
        match connect().await {
            Ok(connection) => {
                if let Err(error) = deliver_over(connection, &mut events, &mut undelivered).await {
                    log::warn(format_args!("event connection lost: {error}"));
                }
            }
            Err(error) => {
                log::warn(format_args!("cannot connect to the supervisor: {error}"));
                tokio::time::sleep(RECONNECT_AFTER).await;
            }
        }
    }
}

async fn deliver_over(
    connection: impl AsyncRead + AsyncWrite + Unpin,
    events: &mut EventQueue,
    undelivered: &mut Option<Event>,
) -> io::Result<()> {
    let (mut from_host, mut to_host) = tokio::io::split(connection);
    write(&mut to_host, &ready()).await?;
    loop {
        let event = match undelivered.take() {
            Some(event) => event,
            None => tokio::select! {
                event = events.queue.recv() => match event {
                    Some(event) => event,
                    None => return Ok(()),
                },
                error = end(&mut from_host) => return Err(error),
            },
        };
        let result = write(&mut to_host, &event).await;
        if result.is_err() {
            *undelivered = Some(event);
        }
        result?;
    }
}

/// Waits for the connection's end: all there is to read, for the host says nothing here.
async fn end(connection: &mut (impl AsyncRead + Unpin)) -> io::Error {
    match connection.read(&mut [0]).await {
        Ok(_) => io::ErrorKind::ConnectionReset.into(),
        Err(error) => error,
    }
}

async fn write<W: AsyncWrite + Unpin>(connection: &mut W, event: &Event) -> io::Result<()> {
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
    use tokio::io::{DuplexStream, duplex};

    use super::*;

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
        let connections = Mutex::new(vec![second_guest, first_guest]);
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
            () = deliver(queue, connect) => unreachable!("delivery never ends"),
            () = host => {}
        }
    }
}
