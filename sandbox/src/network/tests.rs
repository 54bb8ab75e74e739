//! Pods' networks in network namespaces made for the purpose, which takes root; without it, there is nothing to test.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};

use futures_util::TryStreamExt;
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket, UnixStream};

use super::*;

const LIMIT: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// In a new namespace.
async fn within<T, F, W>(work: W) -> Option<T>
where
    T: Send + 'static,
    F: Future<Output = T>,
    W: FnOnce(Handle) -> F + Send + 'static,
{
    let namespace = NetworkNamespace::create().ok()?;
    let working = move || async move {
        let (connection, netlink, _) = rtnetlink::new_connection().unwrap();
        tokio::spawn(connection);
        work(netlink).await
    };
    Some(namespace.run_async(working).await.unwrap())
}

async fn index(netlink: &Handle, name: &str) -> u32 {
    let found = netlink.link().get().match_name(name.to_owned()).execute().try_next().await;
    found.unwrap().unwrap().header.index
}

pub(super) async fn up(netlink: &Handle, name: &str) -> u32 {
    let index = index(netlink, name).await;
    netlink.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await.unwrap();
    index
}

async fn veth(netlink: &Handle, name: &str, peer: &str) -> (u32, u32) {
    netlink.link().add(LinkVeth::new(name, peer).build()).execute().await.unwrap();
    (up(netlink, name).await, up(netlink, peer).await)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_guest_is_told_what_a_plugin_set_up_and_nothing_of_the_kernels_making() {
    let described = within(|netlink| async move {
        let (eth0, peer) = veth(&netlink, "eth0", "peer").await;
        netlink.link().set(LinkUnspec::new_with_index(peer).down().build()).execute().await.unwrap();
        netlink.link().set(LinkUnspec::new_with_index(eth0).mtu(1400).build()).execute().await.unwrap();
        netlink.address().add(eth0, ip("10.1.2.3"), 24).execute().await.unwrap();
        netlink.address().add(eth0, ip("fd00::3"), 64).execute().await.unwrap();
        // Without a link there are no routes over it.
        netlink.link().set(LinkUnspec::new_with_index(peer).up().build()).execute().await.unwrap();
        let gateway = RouteMessageBuilder::<Ipv4Addr>::new().gateway(Ipv4Addr::new(10, 1, 2, 1));
        netlink.route().add(gateway.build()).execute().await.unwrap();
        let direct = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(Ipv4Addr::new(169, 254, 1, 1), 32)
            .output_interface(eth0);
        netlink.route().add(direct.build()).execute().await.unwrap();
        netlink.neighbours().add(eth0, ip("10.1.2.1")).link_layer_address(&[2; 6]).execute().await.unwrap();
        netlink.link().set(LinkUnspec::new_with_index(peer).down().build()).execute().await.unwrap();
        Pod::read(&netlink).await.unwrap()
    });
    let Some(Pod { interfaces, routes, neighbours }) = described.await else { return };

    let [eth0] = interfaces.try_into().unwrap();
    assert_eq!((eth0.told.name.as_str(), eth0.told.mtu), ("eth0", 1400));
    assert_eq!(eth0.told.mac, eth0.mac);
    let addresses: Vec<_> =
        eth0.told.addresses.iter().map(|address| (address.ip.len(), address.prefix_length)).collect();
    assert_eq!(addresses, [(4, 24), (16, 64)]);

    let ways: Vec<_> = routes
        .iter()
        .map(|route| (route.destination.as_slice(), route.prefix_length, route.gateway.as_slice()))
        .collect();
    assert_eq!(ways, [(&[169, 254, 1, 1][..], 32, &[][..]), (&[], 0, &[10, 1, 2, 1])]);
    assert!(routes.iter().all(|route| route.interface == "eth0" && route.table == 254));
    let [neighbour] = neighbours.try_into().unwrap();
    assert_eq!((neighbour.ip, neighbour.mac), (vec![10, 1, 2, 1], vec![2; 6]));
}

const QUEUES: u8 = 2;

/// A packet of no protocol, behind a header of virtio-net that asks for nothing.
fn packet(content: &[u8]) -> Vec<u8> {
    const HEADER: [u8; 10] = [0; 10];
    const EXPERIMENTAL: [u8; 2] = [0x88, 0xb5];
    [&HEADER[..], &[0xff; 6], &[2; 6], &EXPERIMENTAL, content].concat()
}

/// By any of a tap's queues, among whatever else the kernel says.
fn receive(queues: &[OwnedFd], wanted: &[u8]) {
    loop {
        let mut ready: Vec<_> =
            queues.iter().map(|queue| PollFd::from_borrowed_fd(queue.as_fd(), PollFlags::IN)).collect();
        assert_ne!(poll(&mut ready, Some(&LIMIT)).unwrap(), 0, "the packet does not come");
        let first = ready.iter().position(|polled| !polled.revents().is_empty()).unwrap();
        let mut received = [0; 2048];
        let length = File::from(queues[first].try_clone().unwrap()).read(&mut received).unwrap();
        if received[..length].starts_with(wanted) {
            return;
        }
    }
}

#[tokio::test]
async fn packets_cross_between_a_tap_and_its_interface_both_ways() {
    within(|netlink| async move {
        veth(&netlink, "eth0", "far").await;
        // With one beside either end, there are four crossings on the way.
        let pod = Pod::read(&netlink).await.unwrap();
        let mut taps = Vec::new();
        for interface in &pod.interfaces {
            taps.push(tap::beside(&netlink, interface, QUEUES).await.unwrap());
        }
        let [one, other] = taps.try_into().unwrap();
        assert!(tap::is_ours(&one.name), "{}", one.name);
        for (from, to) in [(&one, &other), (&other, &one)] {
            let sent = packet(from.name.as_bytes());
            assert_eq!((from.queues.len(), to.queues.len()), (usize::from(QUEUES), usize::from(QUEUES)));
            assert_eq!(File::from(from.queues[0].try_clone().unwrap()).write(&sent).unwrap(), sent.len());
            receive(&to.queues, &sent);
        }
        // Which the next description has nothing of; and a sandbox that comes after has taps of its own.
        assert_eq!(Pod::read(&netlink).await.unwrap().interfaces.len(), 2);
        drop((one, other));
        tap::beside(&netlink, &pod.interfaces[0], 1).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn only_network_namespaces_are_taken_for_such() {
    let open = |path: &str| NetworkNamespace::open(path.as_ref());
    assert!(open("/proc/self/ns/net").unwrap().is_own().unwrap());
    assert!(matches!(open("/proc/self/ns/mnt"), Err(NamespaceError::Kind(_))));
    assert!(matches!(open("/dev/null"), Err(NamespaceError::Kind(_))));
    assert!(matches!(open("/nowhere"), Err(NamespaceError::Open { .. })));
    if let Ok(namespace) = NetworkNamespace::create() {
        assert!(!namespace.is_own().unwrap());
    }
    let own = open("/proc/self/ns/net").unwrap();
    assert!(matches!(look(&own, Vec::new(), 1).await, Err(NetworkError::OfHost)));
}

/// What a name server is asked here, and answers; its flags say whether there is more by TCP.
fn message(id: u8, flags: u8, content: &str) -> Vec<u8> {
    [&[0, id, flags][..], &[0; 9], content.as_bytes()].concat()
}

/// Answers by datagram that the answer is too long for that, for the question 2.
async fn name_server(datagrams: UdpSocket, streams: TcpListener) {
    let by_stream = async {
        let (mut stream, _) = streams.accept().await.unwrap();
        let length = stream.read_u16().await.unwrap();
        let mut question = vec![0; length.into()];
        stream.read_exact(&mut question).await.unwrap();
        let answer = message(question[1], 0, "whole");
        stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
        stream.write_all(&answer).await.unwrap();
    };
    let by_datagram = async {
        loop {
            let mut question = [0; 512];
            let (_, from) = datagrams.recv_from(&mut question).await.unwrap();
            let answer = if question[1] == 2 { message(2, 2, "") } else { message(question[1], 0, "short") };
            datagrams.send_to(&answer, from).await.unwrap();
        }
    };
    tokio::select! {
        () = by_datagram => {}
        () = async { by_stream.await; std::future::pending().await } => {}
    }
}

#[tokio::test]
async fn names_are_asked_of_the_server_in_the_namespace() {
    let Ok(namespace) = NetworkNamespace::create() else { return };
    let (serving, served) = tokio::sync::oneshot::channel::<()>();
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let server = move || async move {
        let (connection, netlink, _) = rtnetlink::new_connection().unwrap();
        tokio::spawn(connection);
        up(&netlink, "lo").await;
        let datagrams = UdpSocket::bind("127.0.0.11:53").await.unwrap();
        let streams = TcpListener::bind("127.0.0.11:53").await.unwrap();
        ready.send(()).unwrap();
        tokio::select! {
            () = name_server(datagrams, streams) => {}
            _ = served => {}
        }
    };
    namespace.start(server).unwrap();
    is_ready.await.unwrap();

    let (incoming, streams) = mpsc::channel(1);
    names::serve(&namespace, streams).unwrap();
    let (mut guest, host) = UnixStream::pair().unwrap();
    let host = OwnedFd::from(host.into_std().unwrap());
    incoming.send(Incoming { port: NAME_PORT, stream: host }).await.ok().unwrap();
    for (id, expected) in [(1, "short"), (2, "whole"), (3, "short")] {
        let question = message(id, 1, "name?");
        guest.write_u16(u16::try_from(question.len()).unwrap()).await.unwrap();
        guest.write_all(&question).await.unwrap();
        let mut answer = vec![0; guest.read_u16().await.unwrap().into()];
        guest.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, message(id, 0, expected));
    }
    drop(serving);
}
