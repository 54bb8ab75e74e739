//! What a network namespace has, in the words of the agent: by rtnetlink(7).

use std::collections::HashMap;
use std::net::IpAddr;

use agent_api::agent::{Address, Interface, Neighbour, Route};
use futures_util::{Stream, TryStreamExt};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressProtocol};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteProtocol, RouteType,
};
use rtnetlink::Handle;

use super::{NetworkError, tap};

/// Of the kernel's making (rtnetlink(7), RT_TABLE_LOCAL).
const LOCAL_TABLE: u32 = 255;

/// The interfaces of a network namespace that a guest can have, and what leads over them.
#[derive(Debug, Default)]
pub(super) struct Pod {
    /// In the order they came into being.
    pub(super) interfaces: Vec<PodInterface>,
    pub(super) routes: Vec<Route>,
    pub(super) neighbours: Vec<Neighbour>,
}

#[derive(Debug)]
pub(super) struct PodInterface {
    /// By which the namespace's kernel knows it.
    pub(super) index: u32,
    pub(super) mac: [u8; 6],
    /// All but its device.
    pub(super) told: Interface,
}

impl Pod {
    /// Of the namespace that the handle is of.
    pub(super) async fn read(netlink: &Handle) -> Result<Self, NetworkError> {
        let links = all("read the interfaces", netlink.link().get().execute()).await?;
        let mut pod = Self::default();
        for link in &links {
            pod.interfaces.extend(interface(link)?);
        }
        for address in all("read the addresses", netlink.address().get().execute()).await? {
            if let Some(interface) = pod.interface_mut(address.header.index) {
                interface.told.addresses.extend(told_address(&address));
            }
        }
        let names: HashMap<u32, String> =
            pod.interfaces.iter().map(|interface| (interface.index, interface.told.name.clone())).collect();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut wanted = RouteMessage::default();
            wanted.header.address_family = family;
            let routes = all("read the routes", netlink.route().get(wanted).execute()).await?;
            pod.routes.extend(routes.iter().filter_map(|route| told_route(route, &names)));
        }
        // A gateway is to be in reach before a route names it.
        pod.routes.sort_by_key(|route| !route.gateway.is_empty());
        let neighbours = all("read the neighbours", netlink.neighbours().get().execute()).await?;
        pod.neighbours.extend(neighbours.iter().filter_map(|neighbour| told_neighbour(neighbour, &names)));
        Ok(pod)
    }

    fn interface_mut(&mut self, index: u32) -> Option<&mut PodInterface> {
        self.interfaces.iter_mut().find(|interface| interface.index == index)
    }
}

async fn all<T>(
    doing: &'static str,
    answers: impl Stream<Item = Result<T, rtnetlink::Error>>,
) -> Result<Vec<T>, NetworkError> {
    answers.try_collect().await.map_err(|source| NetworkError::Netlink { doing, source })
}

/// What is not up, or is a part of another one, is not the pod's to use: kernels put a handful of such in every namespace.
fn interface(link: &LinkMessage) -> Result<Option<PodInterface>, NetworkError> {
    let flags = link.header.flags;
    let (mut name, mut mac, mut mtu, mut is_part) = (String::new(), Vec::new(), 0, false);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(given) => name.clone_from(given),
            LinkAttribute::Address(address) => mac.clone_from(address),
            LinkAttribute::Mtu(bytes) => mtu = *bytes,
            LinkAttribute::Controller(_) => is_part = true,
            _ => {}
        }
    }
    if flags.contains(LinkFlags::Loopback) || !flags.contains(LinkFlags::Up) || is_part || tap::is_ours(&name)
    {
        return Ok(None);
    }
    match <[u8; 6]>::try_from(mac.as_slice()) {
        Ok(address) if link.header.link_layer_type == LinkLayerType::Ether => {
            let told = Interface { name, mac, mtu, ..Default::default() };
            Ok(Some(PodInterface { index: link.header.index, mac: address, told }))
        }
        _ => Err(NetworkError::NotEthernet(name)),
    }
}

/// Not those that a kernel gives itself: the guest's does so, too.
fn told_address(message: &AddressMessage) -> Option<Address> {
    let (mut local, mut peer, mut broadcast, mut maker) = (None, None, Vec::new(), None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => peer = Some(*ip),
            AddressAttribute::Broadcast(ip) => broadcast = ip.octets().to_vec(),
            AddressAttribute::Protocol(protocol) => maker = Some(*protocol),
            _ => {}
        }
    }
    let ip = local.or(peer)?;
    let by_kernel = match maker {
        Some(maker) => matches!(maker, AddressProtocol::LinkLocal | AddressProtocol::RouterAnnouncement),
        // Linux before 5.18 does not tell.
        None => matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()),
    };
    let prefix_length = u32::from(message.header.prefix_len);
    (!by_kernel).then(|| Address { ip: octets(ip), prefix_length, broadcast, ..Default::default() })
}

/// Not those that come with an address, or by the router's word: the guest's kernel makes them.
fn told_route(message: &RouteMessage, names: &HashMap<u32, String>) -> Option<Route> {
    let header = &message.header;
    let by_kernel =
        matches!(header.protocol, RouteProtocol::Kernel | RouteProtocol::Ra | RouteProtocol::IcmpRedirect);
    if by_kernel || header.kind != RouteType::Unicast || header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let mut route = Route {
        prefix_length: header.destination_prefix_length.into(),
        scope: u8::from(header.scope).into(),
        protocol: u8::from(header.protocol).into(),
        table: header.table.into(),
        flags: (header.flags & RouteFlags::Onlink).bits(),
        ipv6: header.address_family == AddressFamily::Inet6,
        type_: u8::from(header.kind).into(),
        ..Default::default()
    };
    let mut over = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(ip) => route.destination = route_octets(ip)?,
            RouteAttribute::Gateway(ip) => route.gateway = route_octets(ip)?,
            RouteAttribute::PrefSource(ip) => route.preferred_source = route_octets(ip)?,
            RouteAttribute::Oif(index) => over = Some(*index),
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::Table(table) => route.table = *table,
            // A guest goes the first of several ways.
            RouteAttribute::MultiPath(ways) => over = over.or(first_way(ways, &mut route)),
            _ => {}
        }
    }
    route.interface.clone_from(names.get(&over?)?);
    (route.table != LOCAL_TABLE).then_some(route)
}

fn first_way(ways: &[RouteNextHop], route: &mut Route) -> Option<u32> {
    let way = ways.first()?;
    for attribute in &way.attributes {
        if let RouteAttribute::Gateway(ip) = attribute {
            route.gateway = route_octets(ip)?;
        }
    }
    Some(way.interface_index)
}

/// Those that somebody set for good: others a guest finds by itself.
fn told_neighbour(message: &NeighbourMessage, names: &HashMap<u32, String>) -> Option<Neighbour> {
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let mut neighbour =
        Neighbour { interface: names.get(&message.header.ifindex)?.clone(), ..Default::default() };
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => {
                neighbour.ip = ip.octets().to_vec();
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => {
                neighbour.ip = ip.octets().to_vec();
            }
            NeighbourAttribute::LinkLayerAddress(mac) => neighbour.mac.clone_from(mac),
            _ => {}
        }
    }
    (!neighbour.ip.is_empty() && neighbour.mac.len() == 6).then_some(neighbour)
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn route_octets(ip: &RouteAddress) -> Option<Vec<u8>> {
    match ip {
        RouteAddress::Inet(ip) => Some(ip.octets().to_vec()),
        RouteAddress::Inet6(ip) => Some(ip.octets().to_vec()),
        _ => None,
    }
}
