//! Names for a guest: what it asks on a stream, as DNS over TCP, is asked of the name server in the pod's network namespace.
//! Docker's is one that only that namespace has.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use agent_api::ports;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{TcpStream, UdpSocket, UnixStream};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::namespace::{NamespaceError, NetworkNamespace};
use crate::vmm::{self, Incoming};

const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 11), 53);

/// Streams at a time; further ones wait, and of very many the VMM refuses some.
const STREAMS: usize = 64;

/// Questions of one stream at a time; further ones wait.
const QUESTIONS: usize = 16;

/// As long as resolvers wait for one try (resolv.conf(5), `timeout`), and what Docker's takes to try another.
const PATIENCE: Duration = Duration::from_secs(10);

/// A message of nothing but its header, in bytes (RFC 1035 §4.1.1).
const SHORTEST: usize = 12;

/// Answers the streams from a thread in the namespace, until the VMM is gone.
pub(super) fn serve(
    namespace: &NetworkNamespace,
    mut incoming: mpsc::Receiver<Incoming>,
) -> Result<(), NamespaceError> {
    namespace.start(move || async move {
        let mut streams = JoinSet::new();
        while let Some(Incoming { port, stream }) = incoming.recv().await {
            if port != ports::NAME_PORT {
                continue;
            }
            if streams.len() >= STREAMS {
                let _ = streams.join_next().await;
            }
            // A stream that cannot be used is closed, which the guest sees.
            if let Ok(stream) = vmm::stream(stream) {
                streams.spawn(answer(stream));
            }
            while streams.try_join_next().is_some() {}
        }
    })
}

/// Answers what is asked on a stream, in the order the answers come.
async fn answer(stream: UnixStream) {
    let (mut questions, answers) = stream.into_split();
    let answers = Arc::new(Mutex::new(answers));
    let mut asked = JoinSet::new();
    while let Ok(question) = read_message(&mut questions).await {
        if asked.len() >= QUESTIONS {
            let _ = asked.join_next().await;
        }
        asked.spawn(pass_on(question, Arc::clone(&answers)));
        while asked.try_join_next().is_some() {}
    }
    while asked.join_next().await.is_some() {}
}

/// A question that finds no answer is left without one, as UDP has it: who asked asks again.
async fn pass_on(question: Vec<u8>, answers: Arc<Mutex<OwnedWriteHalf>>) {
    if let Ok(Ok(answer)) = timeout(PATIENCE, ask(&question)).await {
        let _ = write_message(&mut *answers.lock().await, &answer).await;
    }
}

async fn ask(question: &[u8]) -> io::Result<Vec<u8>> {
    let answer = ask_by_datagram(question).await?;
    if is_truncated(&answer) { ask_by_stream(question).await } else { Ok(answer) }
}

async fn ask_by_datagram(question: &[u8]) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    // What comes from anywhere else is not received.
    socket.connect(SERVER).await?;
    socket.send(question).await?;
    let mut answer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut answer).await?;
        if length >= SHORTEST && answer.get(..2) == question.get(..2) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn ask_by_stream(question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(SERVER).await?;
    write_message(&mut stream, question).await?;
    read_message(&mut stream).await
}

/// RFC 1035 §4.1.1, TC.
fn is_truncated(answer: &[u8]) -> bool {
    const TC: u8 = 0x02;
    answer.get(2).is_some_and(|flags| flags & TC != 0)
}

/// RFC 1035 §4.2.2: behind its length.
async fn read_message(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if length < SHORTEST {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_message(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await
}
