//! Connects the host to what listens on the guest's loopback, which containers of a pod share: each connection the host makes
//! names a port (agent-api, `loopback`), and becomes one to it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use agent_api::loopback;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long the host may take to name a port, and who listens there to be connected to.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves a connection of the host's, in the background.
pub(crate) fn serve(host: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    tokio::spawn(async move {
        // One that breaks, both its ends see end.
        let _ = relay(host).await;
    });
}

async fn relay(mut host: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut request = [0; loopback::REQUEST_LEN];
    timeout(PATIENCE, host.read_exact(&mut request)).await??;
    let connecting = timeout(PATIENCE, connect(loopback::decode_request(request)));
    let connected = connecting.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let answer = connected.as_ref().map(drop).map_err(error_number);
    host.write_all(&loopback::encode_answer(answer)).await?;
    copy_bidirectional(&mut host, &mut connected?).await.map(drop)
}

/// By IPv6 where nobody takes it by IPv4: a server may listen on one of the loopback's addresses alone.
async fn connect(port: u16) -> io::Result<TcpStream> {
    let refusal = match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
        Ok(connected) => return Ok(connected),
        Err(refusal) => refusal,
    };
    // There may be no IPv6, which is no answer.
    TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.map_err(|_| refusal)
}

fn error_number(error: &io::Error) -> i32 {
    // What is not the kernel's is the end of our patience.
    error.raw_os_error().unwrap_or(libc::ETIMEDOUT)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tokio::io::{DuplexStream, duplex};
    use tokio::net::TcpListener;

    use super::*;

    /// A connection of the host's to `port`, and what was answered.
    async fn open(port: u16) -> (DuplexStream, Result<(), i32>) {
        let (mut host, guest) = duplex(1024);
        serve(guest);
        host.write_all(&loopback::encode_request(port)).await.unwrap();
        let mut answer = [0; loopback::ANSWER_LEN];
        host.read_exact(&mut answer).await.unwrap();
        (host, loopback::decode_answer(answer))
    }

    /// Takes one connection, reads it to its end, and only then answers.
    async fn answer_at_the_end(listener: TcpListener) -> Vec<u8> {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut question = Vec::new();
        client.read_to_end(&mut question).await.unwrap();
        client.write_all(b"answer").await.unwrap();
        question
    }

    async fn ask_server_on(address: IpAddr) {
        let Ok(listener) = TcpListener::bind((address, 0)).await else { return };
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(answer_at_the_end(listener));
        let (mut host, connected) = open(port).await;
        assert_eq!(connected, Ok(()));
        host.write_all(b"question").await.unwrap();
        host.shutdown().await.unwrap();
        let mut answer = Vec::new();
        host.read_to_end(&mut answer).await.unwrap();
        assert_eq!((answer.as_slice(), server.await.unwrap().as_slice()), (&b"answer"[..], &b"question"[..]));
    }

    #[tokio::test]
    async fn a_server_on_either_address_is_reached_and_each_way_ends_by_itself() {
        ask_server_on(Ipv4Addr::LOCALHOST.into()).await;
        // Where there is IPv6.
        ask_server_on(Ipv6Addr::LOCALHOST.into()).await;
    }

    #[tokio::test]
    async fn a_port_without_a_server_is_refused_with_the_kernels_reason() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let (mut host, connected) = open(port).await;
        assert_eq!(connected, Err(libc::ECONNREFUSED));
        assert_eq!(host.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_names_no_port_is_not_waited_for() {
        let (mut host, guest) = duplex(1024);
        serve(guest);
        assert_eq!(host.read(&mut [0]).await.unwrap(), 0);
    }
}
