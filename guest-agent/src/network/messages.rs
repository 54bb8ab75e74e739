//! Addresses, neighbours and routes, to and from netlink messages.

use std::net::IpAddr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};

use super::wanted::{Address, Neighbour, Route};

/// Of the kernel's making (rtnetlink(7), RT_TABLE_LOCAL).
const LOCAL_TABLE: u32 = 255;

pub(super) fn address(index: u32, address: &Address) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address.ip.is_ipv6());
    message.header.prefix_len = address.prefix_length;
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Local(address.ip), AddressAttribute::Address(address.ip)];
    message.attributes.extend(address.broadcast.map(AddressAttribute::Broadcast));
    if address.ip.is_ipv6() {
        // The host's network knows the address already: nobody is to be asked whether it is free.
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    message
}

/// Not those that the kernel gives by itself.
pub(super) fn read_address(message: &AddressMessage) -> Option<Address> {
    let (mut local, mut peer, mut broadcast) = (None, None, None);
    let mut is_permanent = false;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => peer = Some(*ip),
            AddressAttribute::Broadcast(ip) => broadcast = Some(*ip),
            AddressAttribute::Flags(flags) => is_permanent = flags.contains(AddressFlags::Permanent),
            _ => {}
        }
    }
    let ip = local.or(peer)?;
    let by_kernel = match ip {
        IpAddr::V6(ip) => ip.is_unicast_link_local() || !is_permanent,
        IpAddr::V4(_) => false,
    };
    (!by_kernel).then_some(Address { ip, prefix_length: message.header.prefix_len, broadcast })
}

pub(super) fn neighbour(index: u32, neighbour: &Neighbour) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(neighbour.ip.is_ipv6());
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    let ip = match neighbour.ip {
        IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
        IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
    };
    message.attributes = vec![
        NeighbourAttribute::Destination(ip),
        NeighbourAttribute::LinkLayerAddress(neighbour.mac.clone()),
    ];
    message
}

/// Not those that the kernel found.
pub(super) fn read_neighbour(message: &NeighbourMessage) -> Option<(u32, Neighbour)> {
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let (mut ip, mut mac) = (None, Vec::new());
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => ip = Some((*found).into()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(found)) => ip = Some((*found).into()),
            NeighbourAttribute::LinkLayerAddress(found) => mac.clone_from(found),
            _ => {}
        }
    }
    Some((message.header.ifindex, Neighbour { ip: ip?, mac }))
}

pub(super) fn route(index: u32, route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(route.ipv6),
        destination_prefix_length: route.prefix_length,
        // One of a greater number is in the attribute alone.
        table: u8::try_from(route.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC),
        protocol: route.protocol.into(),
        scope: route.scope.into(),
        kind: route.kind.into(),
        flags: RouteFlags::from_bits_retain(route.flags),
        ..Default::default()
    };
    let address = |ip: &IpAddr| RouteAddress::from(*ip);
    message.attributes = vec![RouteAttribute::Oif(index), RouteAttribute::Table(route.table)];
    message.attributes.extend(route.destination.as_ref().map(address).map(RouteAttribute::Destination));
    message.attributes.extend(route.gateway.as_ref().map(address).map(RouteAttribute::Gateway));
    message.attributes.extend(route.preferred_source.as_ref().map(address).map(RouteAttribute::PrefSource));
    if route.metric != 0 {
        message.attributes.push(RouteAttribute::Priority(route.metric));
    }
    message
}

/// Not those that come with an address, or by a router's word.
pub(super) fn read_route(message: &RouteMessage) -> Option<(u32, Route)> {
    let header = &message.header;
    let by_kernel =
        matches!(header.protocol, RouteProtocol::Kernel | RouteProtocol::Ra | RouteProtocol::IcmpRedirect)
            || header.flags.contains(RouteFlags::Cloned)
            || matches!(header.kind, RouteType::Local | RouteType::Broadcast | RouteType::Multicast);
    if by_kernel {
        return None;
    }
    let mut route = Route {
        ipv6: header.address_family == AddressFamily::Inet6,
        destination: None,
        prefix_length: header.destination_prefix_length,
        gateway: None,
        preferred_source: None,
        scope: header.scope.into(),
        protocol: header.protocol.into(),
        table: header.table.into(),
        metric: 0,
        flags: header.flags.bits(),
        kind: header.kind.into(),
    };
    let mut over = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => over = Some(*index),
            RouteAttribute::Table(table) => route.table = *table,
            RouteAttribute::Destination(ip) => route.destination = Some(ip_of(ip)?),
            RouteAttribute::Gateway(ip) => route.gateway = Some(ip_of(ip)?),
            RouteAttribute::PrefSource(ip) => route.preferred_source = Some(ip_of(ip)?),
            RouteAttribute::Priority(metric) => route.metric = *metric,
            _ => {}
        }
    }
    (route.table != LOCAL_TABLE).then_some((over?, route.settled()))
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

fn family(ipv6: bool) -> AddressFamily {
    if ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet }
}
