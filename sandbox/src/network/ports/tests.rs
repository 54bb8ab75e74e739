//! The relay against a guest that is a task here; and in a namespace, where the kernel lets this process have one.

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::super::tests::up;
use super::*;
use crate::guest::GuestError;

/// A guest in which a server listens on every port, or on none.
struct FakeGuest {
    listens: bool,
    /// The ports that were asked for.
    asked: UnboundedSender<u16>,
}

const CONNECTION_REFUSED: i32 = 111;

#[async_trait::async_trait]
impl Dialer for FakeGuest {
    async fn dial(&self, port: u32) -> Result<UnixStream, GuestError> {
        assert_eq!(port, ports::LOOPBACK_PORT);
        let (host, agent) = UnixStream::pair().unwrap();
        tokio::spawn(answer_at_the_end(agent, self.asked.clone(), self.listens));
        Ok(host)
    }

    async fn ended(&self) -> GuestError {
        pending().await
    }
}

/// Reads what a client says to its end, and only then answers by the same.
async fn answer_at_the_end(mut host: UnixStream, asked: UnboundedSender<u16>, listens: bool) {
    let mut request = [0; loopback::REQUEST_LEN];
    host.read_exact(&mut request).await.unwrap();
    let _ = asked.send(loopback::decode_request(request));
    let answer = if listens { Ok(()) } else { Err(CONNECTION_REFUSED) };
    host.write_all(&loopback::encode_answer(answer)).await.unwrap();
    let mut said = Vec::new();
    if answer.is_ok() && host.read_to_end(&mut said).await.is_ok() {
        let _ = host.write_all(&said).await;
    }
}

fn fake_guest(listens: bool) -> (Arc<dyn Dialer>, UnboundedReceiver<u16>) {
    let (asked, ports) = unbounded_channel();
    (Arc::new(FakeGuest { listens, asked }), ports)
}

/// What is answered to a client that ends what it says.
async fn ask(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    client.write_all(b"question").await?;
    client.shutdown().await?;
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await?;
    Ok(answer)
}

/// A connection to a relay of its own.
async fn connect_to_relay(guest: Arc<dyn Dialer>) -> (TcpStream, JoinSet<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut serving = JoinSet::new();
    serving.spawn(Listeners { ipv4: listener, ipv6: None }.serve(guest));
    (TcpStream::connect(address).await.unwrap(), serving)
}

#[tokio::test]
async fn a_connection_is_carried_to_the_port_it_was_made_to_and_each_way_ends_by_itself() {
    let (guest, mut asked) = fake_guest(true);
    let (mut client, _serving) = connect_to_relay(guest).await;
    let port = client.peer_addr().unwrap().port();
    assert_eq!(ask(&mut client).await.unwrap(), b"question");
    assert_eq!(asked.recv().await, Some(port));
}

#[tokio::test]
async fn a_connection_that_nobody_takes_in_the_guest_is_reset() {
    let (guest, _asked) = fake_guest(false);
    let (mut client, _serving) = connect_to_relay(guest).await;
    let reset = client.read(&mut [0]).await.unwrap_err();
    assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn connections_end_with_the_relay() {
    let (guest, mut asked) = fake_guest(true);
    let (mut client, mut serving) = connect_to_relay(guest).await;
    asked.recv().await.unwrap();
    serving.shutdown().await;
    assert_eq!(client.read(&mut [0]).await.unwrap_or_default(), 0);
}

#[tokio::test]
async fn the_hosts_own_loopback_is_left_alone() {
    let own = NetworkNamespace::open("/proc/self/ns/net".as_ref()).unwrap();
    let (guest, _) = fake_guest(true);
    assert!(matches!(ForwardedPorts::of(&own, guest).await, Err(PortsError::OfHost)));
}

/// In the namespace: a client's connection, and what it is answered.
async fn ask_in(namespace: &NetworkNamespace, address: &'static str) -> io::Result<Vec<u8>> {
    let asking = move || async move { ask(&mut TcpStream::connect(address).await?).await };
    namespace.run_async(asking).await.unwrap()
}

#[tokio::test]
async fn every_port_of_a_namespaces_loopback_is_the_guests() {
    let Ok(namespace) = NetworkNamespace::create() else { return };
    let loopback_up = || async {
        let (connection, netlink, _) = rtnetlink::new_connection().unwrap();
        tokio::spawn(connection);
        up(&netlink, "lo").await;
        StdListener::bind("127.0.0.11:53").unwrap()
    };
    let _name_server = namespace.run_async(loopback_up).await.unwrap();
    let (guest, mut asked) = fake_guest(true);
    let ports = match ForwardedPorts::of(&namespace, guest).await {
        Ok(ports) => ports,
        // Who may make a namespace need not have the kernel run programs.
        Err(PortsError::Redirect(_)) => return,
        Err(error) => panic!("{error}"),
    };
    for (address, port) in [("127.0.0.1:80", 80), ("127.0.0.1:65535", 65535), ("[::1]:8080", 8080)] {
        assert_eq!(ask_in(&namespace, address).await.unwrap(), b"question");
        assert_eq!(asked.recv().await, Some(port));
    }
    // Docker's name server has an address of its own there.
    let connect = || async { TcpStream::connect("127.0.0.11:53").await.map(drop) };
    namespace.run_async(connect).await.unwrap().unwrap();

    drop(ports);
    let refused = ask_in(&namespace, "127.0.0.1:80").await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    assert!(asked.try_recv().is_err());
}
