//! The ports of a pod's loopback, where they are looked for: in its network namespace on this host, in which CRI's
//! implementations connect to what they forward (`localhost` of the namespace), and where nobody listens, for the servers are in
//! the guest. Every connection to 127.0.0.1 or ::1 there goes to a listener of ours, and on to the guest's loopback.

mod lookup;

use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use agent_api::{loopback, ports};
use bpf::socket_lookup::AttachedProgram;
use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::namespace::{NamespaceError, NetworkNamespace};
use crate::guest::Dialer;

/// Connections at a time; further ones wait.
const CONNECTIONS: usize = 128;

/// Between attempts to take in a connection, when there may be no descriptor left for it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long the guest may take to say whether somebody listens there.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why ports are not forwarded to a guest.
#[derive(Debug, thiserror::Error)]
pub enum PortsError {
    #[error("the sandbox's network namespace is this host's own")]
    OfHost,
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    #[error("cannot listen on the loopback of the sandbox's network namespace")]
    Listen(#[source] io::Error),
    #[error(
        "the kernel does not redirect connections by a BPF program; it takes Linux 5.9, CAP_BPF and CAP_NET_ADMIN"
    )]
    Redirect(#[source] io::Error),
}

/// Connections to the namespace's loopback go to the guest's until this is dropped, and end then.
pub(super) struct ForwardedPorts {
    _redirect: AttachedProgram,
    task: AbortHandle,
}

/// In the namespace; what comes to them names its port by its own address.
struct Listeners {
    ipv4: TcpListener,
    /// Where the namespace has it.
    ipv6: Option<TcpListener>,
}

impl ForwardedPorts {
    pub(super) async fn of(
        namespace: &NetworkNamespace,
        dialer: Arc<dyn Dialer>,
    ) -> Result<Self, PortsError> {
        // Of a host, these are connections of its own.
        if namespace.is_own().map_err(PortsError::Listen)? {
            return Err(PortsError::OfHost);
        }
        let listeners = namespace.run_async(|| async { Listeners::bind() }).await?;
        let (ipv4, ipv6) = listeners.map_err(PortsError::Listen)?;
        let redirect = lookup::redirect(namespace, &ipv4, ipv6.as_ref()).map_err(PortsError::Redirect)?;
        let listeners = Listeners::of(ipv4, ipv6).map_err(PortsError::Listen)?;
        Ok(Self { _redirect: redirect, task: tokio::spawn(listeners.serve(dialer)).abort_handle() })
    }
}

impl Drop for ForwardedPorts {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listeners {
    /// In the calling thread's namespace, for any runtime.
    fn bind() -> io::Result<(StdListener, Option<StdListener>)> {
        let ipv4 = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        Ok((ipv4, StdListener::bind((Ipv6Addr::LOCALHOST, 0)).ok()))
    }

    fn of(ipv4: StdListener, ipv6: Option<StdListener>) -> io::Result<Self> {
        let here = |listener: StdListener| {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        };
        Ok(Self { ipv4: here(ipv4)?, ipv6: ipv6.map(here).transpose()? })
    }

    async fn serve(self, dialer: Arc<dyn Dialer>) {
        // The connections' tasks end with the set, and that with this task.
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.accept(), if connections.len() < CONNECTIONS => match accepted {
                    Ok(client) => drop(connections.spawn(relay(client, Arc::clone(&dialer)))),
                    // Most likely out of descriptors for a while; the client waits in the backlog.
                    Err(_) => sleep(ACCEPT_PAUSE).await,
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }

    async fn accept(&self) -> io::Result<TcpStream> {
        let by_ipv6 = async {
            match &self.ipv6 {
                Some(listener) => listener.accept().await,
                None => pending().await,
            }
        };
        let accepted = tokio::select! {
            accepted = self.ipv4.accept() => accepted,
            accepted = by_ipv6 => accepted,
        };
        Ok(accepted?.0)
    }
}

/// One that the guest does not take, or loses, is reset: its client was connected before anybody asked the guest, and is not to
/// take that for an answer.
async fn relay(mut client: TcpStream, dialer: Arc<dyn Dialer>) {
    let relayed = async {
        let port = client.local_addr()?.port();
        let mut guest = timeout(PATIENCE, connect(port, dialer.as_ref())).await??;
        copy_bidirectional(&mut client, &mut guest).await
    };
    if relayed.await.is_err() {
        // Fails with the connection.
        let _ = set_socket_linger(&client, Some(Duration::ZERO));
    }
}

/// A connection to a port of the guest's loopback.
async fn connect(port: u16, dialer: &dyn Dialer) -> io::Result<UnixStream> {
    let mut guest = dialer.dial(ports::LOOPBACK_PORT).await.map_err(io::Error::other)?;
    guest.write_all(&loopback::encode_request(port)).await?;
    let mut answer = [0; loopback::ANSWER_LEN];
    guest.read_exact(&mut answer).await?;
    loopback::decode_answer(answer).map_err(io::Error::from_raw_os_error)?;
    Ok(guest)
}

#[cfg(test)]
mod tests;
