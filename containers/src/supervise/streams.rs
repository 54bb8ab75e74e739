//! What goes between a container's command, the clients that have it attached, and its log.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use sandbox::Streams;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::config::OpenStdin;
use crate::log::{Stream, Writer};

/// Large, for few system calls and frames a megabyte.
const BUFFER: usize = 128 * 1024;

/// Whom the streams of the present run, or of the next, are attached to.
#[derive(Clone)]
pub(super) struct Attached(Arc<Shared>);

struct Shared {
    stdout: Output,
    stderr: Output,
    input: Mutex<Inputs>,
    /// Clients that do not read are let go.
    abandoned: watch::Sender<bool>,
}

#[derive(Default)]
struct Output {
    /// Clients that get what comes next.
    joining: Mutex<Vec<UnixStream>>,
    /// The command is to see that nobody reads it.
    unread: Notify,
}

#[derive(Default)]
struct Inputs {
    /// The command's standard input, while there is a run that has one.
    current: Option<Arc<Input>>,
    /// Clients that came before there was.
    waiting: Vec<UnixStream>,
}

struct Input {
    stdin: tokio::sync::Mutex<UnixStream>,
    /// The end of a client's input is the end of the command's.
    ends: bool,
}

impl Attached {
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared {
            stdout: Output::default(),
            stderr: Output::default(),
            input: Mutex::default(),
            abandoned: watch::Sender::new(false),
        }))
    }

    /// Attaches a client's streams to this run's, or to the next one's; what it does not have is closed.
    pub(super) fn join(&self, streams: Streams) {
        let Streams { stdin, stdout, stderr } = streams;
        for (output, stream) in [(&self.0.stdout, stdout), (&self.0.stderr, stderr)] {
            lock(&output.joining).extend(stream);
        }
        if let Some(client) = stdin {
            let mut input = lock(&self.0.input);
            match &input.current {
                Some(current) => drop(tokio::spawn(feed(client, current.clone()))),
                None => input.waiting.push(client),
            }
        }
    }

    /// Closes an output of the command.
    pub(super) fn unread(&self, stream: Stream) {
        self.output(stream).unread.notify_one();
    }

    /// Lets clients go that do not read, now and until the next run.
    pub(super) fn abandon(&self) {
        self.0.abandoned.send_replace(true);
    }

    /// Gives the command's standard input to the clients, those that come too.
    pub(super) fn take_input(&self, stdin: Option<UnixStream>, wanted: OpenStdin, terminal: bool) {
        // A terminal has no end: who left may come back.
        let ends = wanted.once && !terminal;
        let mut input = lock(&self.0.input);
        input.current = stdin.map(|stdin| Arc::new(Input { stdin: tokio::sync::Mutex::new(stdin), ends }));
        let clients = std::mem::take(&mut input.waiting);
        if let Some(current) = &input.current {
            clients.into_iter().for_each(|client| drop(tokio::spawn(feed(client, current.clone()))));
        }
    }

    /// The run is over, and its standard input with it.
    pub(super) fn forget_input(&self) {
        *lock(&self.0.input) = Inputs::default();
    }

    /// Carries the outputs of a run to their ends. The tasks are done when all that came is written.
    pub(super) fn carry(
        &self,
        stdout: Option<UnixStream>,
        stderr: Option<UnixStream>,
        log: &Arc<Mutex<Writer>>,
    ) -> JoinSet<()> {
        self.0.abandoned.send_replace(false);
        let mut carrying = JoinSet::new();
        for (stream, from) in [(Stream::Stdout, stdout), (Stream::Stderr, stderr)] {
            match from {
                Some(from) => drop(carrying.spawn(self.clone().carry_one(stream, from, log.clone()))),
                // With a terminal, there is no second output.
                None => lock(&self.output(stream).joining).clear(),
            }
        }
        carrying
    }

    async fn carry_one(self, stream: Stream, mut from: UnixStream, log: Arc<Mutex<Writer>>) {
        let output = self.output(stream);
        let mut abandoned = self.0.abandoned.subscribe();
        let mut clients: Vec<UnixStream> = Vec::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = tokio::select! {
                biased;
                () = output.unread.notified() => break,
                // A broken stream has ended as well.
                read = from.read(&mut buffer) => read.unwrap_or(0),
            };
            let Some(bytes @ [_, ..]) = buffer.get(..length) else { break };
            // A full disk takes the log's lines, but not the container.
            let _ = lock(&log).append(Timestamp::now(), stream, bytes);
            clients.append(&mut lock(&output.joining));
            let mut reading = Vec::new();
            for mut client in clients {
                let written = tokio::select! {
                    biased;
                    written = client.write_all(bytes) => written.is_ok(),
                    _ = abandoned.wait_for(|abandoned| *abandoned) => false,
                };
                if written {
                    reading.push(client);
                }
            }
            clients = reading;
        }
        lock(&output.joining).clear();
    }

    fn output(&self, stream: Stream) -> &Output {
        match stream {
            Stream::Stdout => &self.0.stdout,
            Stream::Stderr => &self.0.stderr,
        }
    }
}

/// Carries a client's input to the command, as long as both are there.
async fn feed(mut client: UnixStream, input: Arc<Input>) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(length @ 1..) = client.read(&mut buffer).await {
        let bytes = buffer.get(..length).unwrap_or_default();
        if input.stdin.lock().await.write_all(bytes).await.is_err() {
            return;
        }
    }
    if input.ends {
        let ended: io::Result<()> = input.stdin.lock().await.shutdown().await;
        // A command that is gone needs no end of its input.
        drop(ended);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{LogOptions, Reader};

    struct Fixture {
        directory: tempfile::TempDir,
        attached: Attached,
        log: Arc<Mutex<Writer>>,
    }

    impl Fixture {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let writer = Writer::open(directory.path(), LogOptions::default()).unwrap();
            Self { directory, attached: Attached::new(), log: Arc::new(Mutex::new(writer)) }
        }

        /// A client that has stdout attached.
        fn client(&self) -> UnixStream {
            let (ours, theirs) = UnixStream::pair().unwrap();
            self.attached.join(Streams { stdout: Some(theirs), ..Streams::default() });
            ours
        }

        fn logged(&self) -> Vec<u8> {
            let mut reader = Reader::in_directory(self.directory.path());
            let mut all = Vec::new();
            while let Some(chunk) = reader.next_chunk().unwrap() {
                all.extend(chunk.bytes);
            }
            all
        }
    }

    async fn read(mut stream: UnixStream) -> Vec<u8> {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        all
    }

    #[tokio::test]
    async fn every_client_and_the_log_get_all_of_it() {
        let fixture = Fixture::new();
        let (one, two) = (fixture.client(), fixture.client());
        let (mut command, from) = UnixStream::pair().unwrap();
        let mut carrying = fixture.attached.carry(Some(from), None, &fixture.log);
        let sent: Vec<u8> = (0..3_000_000u32).map(|i| i.to_le_bytes()[i as usize % 3]).collect();
        let send = async {
            command.write_all(&sent).await.unwrap();
            drop(command);
        };
        let ((), one, two, _) = tokio::join!(send, read(one), read(two), carrying.join_next());
        assert!(one == sent && two == sent && fixture.logged() == sent);
    }

    #[tokio::test]
    async fn a_client_that_leaves_or_does_not_read_holds_nobody_up_for_ever() {
        let fixture = Fixture::new();
        drop(fixture.client());
        let _asleep = fixture.client();
        let (mut command, from) = UnixStream::pair().unwrap();
        let mut carrying = fixture.attached.carry(Some(from), None, &fixture.log);
        let sent = vec![b'x'; 3_000_000];
        let send = async {
            command.write_all(&sent).await.unwrap();
            drop(command);
        };
        tokio::pin!(send);
        // As far as buffers go; then it waits for the client.
        let stuck = tokio::time::timeout(std::time::Duration::from_millis(200), &mut send).await;
        assert!(stuck.is_err());
        fixture.attached.abandon();
        tokio::join!(send, carrying.join_next());
        assert_eq!(fixture.logged().len(), sent.len());
    }

    #[tokio::test]
    async fn the_command_sees_that_its_output_is_not_read() {
        let fixture = Fixture::new();
        let (mut command, from) = UnixStream::pair().unwrap();
        let mut carrying = fixture.attached.carry(Some(from), None, &fixture.log);
        fixture.attached.unread(Stream::Stdout);
        carrying.join_next().await;
        assert_eq!(command.write_all(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn the_first_clients_end_of_input_is_the_commands_if_it_is_to_be() {
        for (once, terminal, ends) in [(true, false, true), (false, false, false), (true, true, false)] {
            let attached = Attached::new();
            let (mut command, stdin) = UnixStream::pair().unwrap();
            attached.take_input(Some(stdin), OpenStdin { open: true, once }, terminal);
            for text in ["one", "two"] {
                let (mut client, theirs) = UnixStream::pair().unwrap();
                attached.join(Streams { stdin: Some(theirs), ..Streams::default() });
                client.write_all(text.as_bytes()).await.unwrap();
                drop(client);
                let mut got = [0; 3];
                let length = command.read(&mut got).await.unwrap();
                assert_eq!(&got[..length], text.as_bytes());
                if ends {
                    assert_eq!(command.read(&mut got).await.unwrap(), 0);
                    break;
                }
            }
        }
    }
}
