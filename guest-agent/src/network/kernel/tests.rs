//! Against the kernel, in a network namespace of each test's own, with a pair of veth devices in the place of virtio's.

use agent_api::agent::{self, SetNetworkRequest};
use futures_util::StreamExt;
use rtnetlink::LinkVeth;
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::*;

/// Runs the test where nothing but a loopback is, and with devices that a guest could have. Only root can.
fn in_namespace(test: impl AsyncFnOnce(Kernel, Vec<u32>) + Send + 'static) {
    let run = move || {
        // SAFETY: the thread is the test's own, and no descriptor of it is of the namespace left.
        if unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.is_err() {
            eprintln!("skipped: this needs root");
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (connection, netlink, _) = rtnetlink::new_connection().unwrap();
            tokio::spawn(connection);
            let pair = LinkVeth::new("eth0", "eth1").build();
            if let Err(error) = netlink.link().add(pair).execute().await {
                eprintln!("skipped: no devices of this kind here: {error}");
                return;
            }
            let mut kernel = Kernel::connect().unwrap();
            let found = kernel.list("devices", &messages::all_links(), messages::read_link).await.unwrap();
            let mut devices: Vec<_> =
                found.iter().filter(|link| !link.is_loopback).map(|link| link.index).collect();
            devices.sort_unstable();
            test(kernel, devices).await;
        });
    };
    std::thread::spawn(run).join().unwrap();
}

fn interface(device: u32, name: &str, addresses: &[(&[u8], u32)]) -> agent::Interface {
    let address = |(ip, prefix_length): &(&[u8], u32)| agent::Address {
        ip: ip.to_vec(),
        prefix_length: *prefix_length,
        broadcast: Vec::new(),
        ..Default::default()
    };
    agent::Interface {
        device,
        name: name.to_owned(),
        mac: vec![2, 0, 0, 0, 0, u8::try_from(device).unwrap()],
        mtu: 1450,
        addresses: addresses.iter().map(address).collect(),
        ..Default::default()
    }
}

fn route(interface: &str, destination: &[u8], prefix_length: u32, gateway: &[u8]) -> agent::Route {
    agent::Route {
        interface: interface.to_owned(),
        destination: destination.to_vec(),
        prefix_length,
        gateway: gateway.to_vec(),
        ipv6: destination.len() == 16 || gateway.len() == 16,
        scope: if gateway.is_empty() { 253 } else { 0 },
        protocol: 3,
        ..Default::default()
    }
}

const IPV6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const IPV6_GATEWAY: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// As Calico has a pod: a gateway out of reach but by a route of its own, and a neighbour for good.
fn pod() -> SetNetworkRequest {
    SetNetworkRequest {
        interfaces: vec![
            interface(1, "eth0", &[(&[10, 0, 0, 2], 32), (&IPV6, 128)]),
            interface(0, "net1", &[(&[192, 168, 7, 2], 24)]),
        ],
        routes: vec![
            route("eth0", &[], 0, &[169, 254, 1, 1]),
            route("eth0", &[169, 254, 1, 1], 32, &[]),
            agent::Route { metric: 77, table: 300, ..route("net1", &[10, 9, 0, 0], 16, &[192, 168, 7, 1]) },
            route("eth0", &[], 0, &IPV6_GATEWAY),
            agent::Route { flags: 4, ..route("net1", &[10, 8, 0, 0], 16, &[172, 16, 0, 1]) },
        ],
        neighbours: vec![agent::Neighbour {
            ip: vec![169, 254, 1, 1],
            mac: vec![0xee; 6],
            interface: "eth0".to_owned(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// What there is, as a request would say it; equal to what was wanted.
async fn assert_is(kernel: &mut Kernel, devices: &[u32], wanted: &Wanted) {
    let links = kernel.links(devices).await.unwrap();
    let index = |name: &str| links.values().find(|link| link.name == name).unwrap().index;
    for interface in &wanted.interfaces {
        let link = &links[&devices[interface.device]];
        assert_eq!(
            (&link.name, link.mac.as_slice(), link.mtu),
            (&interface.name, &interface.mac[..], interface.mtu)
        );
        assert!(link.is_up);
        assert_eq!(link.addresses.len(), interface.addresses.len(), "{link:?}");
        assert!(interface.addresses.iter().all(|address| link.addresses.contains(address)), "{link:?}");
    }
    let routes = kernel.routes(devices).await.unwrap();
    assert_eq!(routes.len(), wanted.routes.len(), "{routes:?}");
    for (name, route) in &wanted.routes {
        assert!(routes.contains(&(index(name), route.clone())), "{route:?} is not of {routes:?}");
    }
    let neighbours = kernel.neighbours(devices).await.unwrap();
    assert_eq!(neighbours.len(), wanted.neighbours.len());
    for (name, neighbour) in &wanted.neighbours {
        assert!(neighbours.contains(&(index(name), neighbour.clone())));
    }
}

#[test]
fn a_network_becomes_what_is_wanted_and_is_left_alone_then() {
    in_namespace(async |mut kernel, devices| {
        let wanted = Wanted::of(&pod()).unwrap();
        kernel.become_what(&wanted, &devices).await.unwrap();
        assert_is(&mut kernel, &devices, &wanted).await;
        let found = kernel.list("devices", &messages::all_links(), messages::read_link).await.unwrap();
        assert!(found.iter().all(|link| link.is_up));

        // Whatever changes is told to who listens; of devices the kernel tells at times of its own.
        let groups = [rtnetlink::MulticastGroup::Ipv4Route, rtnetlink::MulticastGroup::Ipv4Ifaddr];
        let (connection, _listening, mut told) = rtnetlink::new_multicast_connection(&groups).unwrap();
        tokio::spawn(connection);
        kernel.become_what(&wanted, &devices).await.unwrap();
        tokio::task::yield_now().await;
        assert!(told.try_recv().is_err());
        assert_is(&mut kernel, &devices, &wanted).await;
        kernel.become_what(&Wanted::of(&SetNetworkRequest::default()).unwrap(), &devices).await.unwrap();
        assert!(told.next().await.is_some());
    });
}

#[test]
fn a_network_in_use_becomes_another() {
    in_namespace(async |mut kernel, devices| {
        kernel.become_what(&Wanted::of(&pod()).unwrap(), &devices).await.unwrap();
        // The two change names; addresses and routes go, come and stay.
        let mut other = pod();
        other.interfaces = vec![
            interface(0, "eth0", &[(&[10, 0, 0, 3], 24), (&[10, 0, 0, 4], 24), (&IPV6, 64)]),
            interface(1, "net1", &[(&[192, 168, 7, 2], 24)]),
        ];
        other.routes = vec![route("eth0", &[], 0, &[10, 0, 0, 1])];
        other.neighbours[0].ip = vec![10, 0, 0, 1];
        let wanted = Wanted::of(&other).unwrap();
        kernel.become_what(&wanted, &devices).await.unwrap();
        assert_is(&mut kernel, &devices, &wanted).await;

        // The first of a network's addresses goes, and takes the second with it.
        other.interfaces[0].addresses.remove(0);
        other.routes[0].gateway = vec![10, 0, 0, 9];
        let wanted = Wanted::of(&other).unwrap();
        kernel.become_what(&wanted, &devices).await.unwrap();
        assert_is(&mut kernel, &devices, &wanted).await;
    });
}

#[test]
fn devices_that_are_not_named_any_more_are_out_of_use() {
    in_namespace(async |mut kernel, devices| {
        kernel.become_what(&Wanted::of(&pod()).unwrap(), &devices).await.unwrap();
        let nothing = Wanted::of(&SetNetworkRequest::default()).unwrap();
        kernel.become_what(&nothing, &devices).await.unwrap();
        let links = kernel.links(&devices).await.unwrap();
        assert!(links.values().all(|link| !link.is_up && link.addresses.is_empty()), "{links:?}");
        assert!(kernel.routes(&devices).await.unwrap().is_empty());
        let wanted = Wanted::of(&pod()).unwrap();
        kernel.become_what(&wanted, &devices).await.unwrap();
        assert_is(&mut kernel, &devices, &wanted).await;
    });
}

#[test]
fn what_the_kernel_refuses_is_named() {
    in_namespace(async |mut kernel, devices| {
        let mut request = pod();
        request.routes = vec![route("eth0", &[], 0, &[10, 77, 0, 1])];
        let error = kernel.become_what(&Wanted::of(&request).unwrap(), &devices).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot add the route by default via 10.77.0.1 over the interface \"eth0\""
        );
    });
}
