//! Answers DNS in the guest where Docker's containers ask for it, out of the host's network: each client's questions go over a
//! vsock stream of their own, as DNS over TCP (agent-api, RFC 1035 §4.2.2).

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::dns;
use crate::{log, transport};

/// Where Docker has its own name server.
const ADDRESS: (Ipv4Addr, u16) = (Ipv4Addr::new(127, 0, 0, 11), 53);

/// Who may wait for answers at one time.
const CLIENTS: usize = 64;

/// How long a client may take, and its answers.
const PATIENCE: Duration = Duration::from_secs(10);

/// Begins to answer; for as long as the guest lives.
pub(super) async fn start() -> io::Result<()> {
    let (datagrams, streams) = (UdpSocket::bind(ADDRESS).await?, TcpListener::bind(ADDRESS).await?);
    let clients = Arc::new(Semaphore::new(CLIENTS));
    tokio::spawn(relay_datagrams(datagrams, Arc::clone(&clients), transport::connect_names));
    tokio::spawn(relay_streams(streams, clients, transport::connect_names));
    Ok(())
}

async fn relay_datagrams<C, F, S>(socket: UdpSocket, clients: Arc<Semaphore>, connect: C)
where
    C: Fn() -> F,
    F: Future<Output = io::Result<S>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let socket = Arc::new(socket);
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let (query, client) = match socket.recv_from(&mut buffer).await {
            Ok((length, client)) => (buffer.get(..length).unwrap_or_default().to_vec(), client),
            // Of one that was answered and had gone.
            Err(_) => continue,
        };
        // Who gets no answer asks again.
        let Ok(turn) = Arc::clone(&clients).try_acquire_owned() else { continue };
        let (socket, connecting) = (Arc::clone(&socket), connect());
        tokio::spawn(async move {
            let answered = timeout(PATIENCE, answer_datagram(&socket, client, &query, connecting)).await;
            if let Ok(Err(error)) = answered {
                log::warn(format_args!("no answer to a question for a name: {error}"));
            }
            drop(turn);
        });
    }
}

async fn answer_datagram<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &UdpSocket,
    client: SocketAddr,
    query: &[u8],
    connecting: impl Future<Output = io::Result<S>>,
) -> io::Result<()> {
    let mut host = connecting.await?;
    host.write_all(&dns::frame(query).ok_or(io::ErrorKind::InvalidData)?).await?;
    let mut answer = vec![0; usize::from(host.read_u16().await?)];
    host.read_exact(&mut answer).await?;
    socket.send_to(&dns::fit(query, answer), client).await.map(drop)
}

async fn relay_streams<C, F, S>(listener: TcpListener, clients: Arc<Semaphore>, connect: C)
where
    C: Fn() -> F,
    F: Future<Output = io::Result<S>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    loop {
        // Those beyond wait to be accepted.
        let Ok(turn) = Arc::clone(&clients).acquire_owned().await else { return };
        let mut client = match listener.accept().await {
            Ok((client, _)) => client,
            Err(error) => {
                log::warn(format_args!("cannot take in who asks for names: {error}"));
                continue;
            }
        };
        let connecting = connect();
        tokio::spawn(async move {
            // The two sides speak the same. One that is cut off asks again (RFC 7766 §6.2.4).
            let relayed = async { copy_bidirectional(&mut client, &mut connecting.await?).await };
            if let Ok(Err(error)) = timeout(PATIENCE, relayed).await {
                log::warn(format_args!("no answer to questions for names: {error}"));
            }
            drop(turn);
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use tokio::net::TcpStream;

    use super::*;

    const QUERY: &[u8] = b"\x00\x07\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00";

    /// A host that answers what it is asked by the same.
    async fn echo() -> io::Result<tokio::io::DuplexStream> {
        let (guest, host) = duplex(1024);
        tokio::spawn(async move {
            let (mut questions, mut answers) = tokio::io::split(host);
            tokio::io::copy(&mut questions, &mut answers).await
        });
        Ok(guest)
    }

    #[tokio::test]
    async fn datagrams_are_answered_to_who_asked() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = socket.local_addr().unwrap();
        tokio::spawn(relay_datagrams(socket, Arc::new(Semaphore::new(2)), echo));
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        client.send_to(QUERY, server).await.unwrap();
        let mut answer = [0; 64];
        let (length, from) = client.recv_from(&mut answer).await.unwrap();
        assert_eq!((&answer[..length], from), (QUERY, server));
    }

    #[tokio::test]
    async fn streams_are_passed_on_as_they_are() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = listener.local_addr().unwrap();
        tokio::spawn(relay_streams(listener, Arc::new(Semaphore::new(1)), echo));
        let mut client = TcpStream::connect(server).await.unwrap();
        let framed = dns::frame(QUERY).unwrap();
        for _ in 0..2 {
            client.write_all(&framed).await.unwrap();
            let mut answer = vec![0; framed.len()];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer, framed);
        }
    }
}
