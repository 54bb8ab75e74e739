//! Devices, addresses, neighbours and routes, to and from netlink messages (rtnetlink(7)).

use std::net::IpAddr;

use super::netlink::{Request, attributes, u16_at, u32_at};
use super::wanted::{self, Address, Neighbour, Route};

/// Address families, as messages have them.
const INET: u8 = 2;
const INET6: u8 = 10;

/// Of an address: nobody is asked whether it is free; it is there for good (IFA_F_NODAD, IFA_F_PERMANENT).
const NODAD: u32 = 0x02;
const PERMANENT: u32 = 0x80;

/// Of the kernel's making (RT_TABLE_LOCAL).
const LOCAL_TABLE: u32 = 255;

/// RTPROT_REDIRECT, RTPROT_KERNEL, RTPROT_RA.
const PROTOCOLS_OF_KERNEL: [u8; 3] = [1, 2, 9];

/// RTN_LOCAL to RTN_MULTICAST.
const KINDS_OF_KERNEL: std::ops::RangeInclusive<u8> = 2..=5;

/// RTM_F_CLONED.
const CLONED: u32 = 0x200;

/// The lengths of struct ifinfomsg, ifaddrmsg, ndmsg and rtmsg.
const LINK_LEN: usize = 16;
const ADDRESS_LEN: usize = 8;
const NEIGHBOUR_LEN: usize = 12;
const ROUTE_LEN: usize = 12;

const UP: u32 = libc::IFF_UP.cast_unsigned();
const LOOPBACK: u32 = libc::IFF_LOOPBACK.cast_unsigned();

/// A device as it is.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mac: Vec<u8>,
    pub(super) mtu: u32,
    pub(super) is_up: bool,
    pub(super) is_loopback: bool,
    pub(super) addresses: Vec<Address>,
}

pub(super) fn all_links() -> Request {
    Request::new(libc::RTM_GETLINK, &[0; LINK_LEN])
}

pub(super) fn read_link(body: &[u8]) -> Option<Link> {
    let flags = u32_at(body, 8)?;
    let mut link = Link {
        index: u32_at(body, 4)?,
        is_up: flags & UP != 0,
        is_loopback: flags & LOOPBACK != 0,
        ..Default::default()
    };
    for (attribute, value) in attributes(body, LINK_LEN) {
        match attribute {
            libc::IFLA_IFNAME => {
                link.name = String::from_utf8_lossy(value).trim_end_matches('\0').to_owned();
            }
            libc::IFLA_ADDRESS => link.mac = value.to_vec(),
            libc::IFLA_MTU => link.mtu = u32_at(value, 0)?,
            _ => {}
        }
    }
    Some(link)
}

/// A change of a device that sets it up, or down.
pub(super) fn set_link(index: u32, up: bool) -> Request {
    let flags = if up { UP } else { 0 };
    let numbers = [0, index, flags, UP];
    Request::new(libc::RTM_NEWLINK, numbers.map(u32::to_ne_bytes).as_flattened())
}

/// A change of a device that leaves it up or down as it is.
pub(super) fn rename_link(index: u32, name: &str) -> Request {
    let numbers = [0, index, 0, 0];
    with_name(Request::new(libc::RTM_NEWLINK, numbers.map(u32::to_ne_bytes).as_flattened()), name)
}

/// A move of a device to another network namespace, by a descriptor of it.
pub(super) fn move_link(index: u32, namespace: i32) -> Request {
    let numbers = [0, index, 0, 0];
    let change = Request::new(libc::RTM_NEWLINK, numbers.map(u32::to_ne_bytes).as_flattened());
    change.with(libc::IFLA_NET_NS_FD, &namespace.to_ne_bytes())
}

pub(super) fn with_name(change: Request, name: &str) -> Request {
    change.with(libc::IFLA_IFNAME, &[name.as_bytes(), b"\0"].concat())
}

pub(super) fn with_mac(change: Request, mac: [u8; 6]) -> Request {
    change.with(libc::IFLA_ADDRESS, &mac)
}

pub(super) fn with_mtu(change: Request, mtu: u32) -> Request {
    change.with(libc::IFLA_MTU, &mtu.to_ne_bytes())
}

pub(super) fn all_addresses() -> Request {
    Request::new(libc::RTM_GETADDR, &[0; ADDRESS_LEN])
}

pub(super) fn add_address(index: u32, address: &Address) -> Request {
    let request = of_address(libc::RTM_NEWADDR, index, address);
    // The host's network knows the address already: it is not to wait until nobody has claimed it.
    if address.ip.is_ipv6() { request.with(libc::IFA_FLAGS, &NODAD.to_ne_bytes()) } else { request }
}

pub(super) fn remove_address(index: u32, address: &Address) -> Request {
    of_address(libc::RTM_DELADDR, index, address)
}

fn of_address(kind: u16, index: u32, address: &Address) -> Request {
    let [a, b, c, d] = index.to_ne_bytes();
    let ip = wanted::octets(address.ip);
    let request =
        Request::new(kind, &[family(address.ip.is_ipv6()), address.prefix_length, 0, 0, a, b, c, d])
            .with(libc::IFA_LOCAL, &ip)
            .with(libc::IFA_ADDRESS, &ip);
    match address.broadcast {
        Some(broadcast) => request.with(libc::IFA_BROADCAST, &broadcast.octets()),
        None => request,
    }
}

/// With the index of its device. Not those that the kernel gives by itself.
pub(super) fn read_address(body: &[u8]) -> Option<(u32, Address)> {
    let (mut local, mut peer, mut broadcast, mut flags) = (None, None, None, 0);
    for (attribute, value) in attributes(body, ADDRESS_LEN) {
        match attribute {
            libc::IFA_LOCAL => local = wanted::ip(value),
            libc::IFA_ADDRESS => peer = wanted::ip(value),
            libc::IFA_BROADCAST => broadcast = value.first_chunk::<4>().map(|octets| (*octets).into()),
            libc::IFA_FLAGS => flags = u32_at(value, 0)?,
            _ => {}
        }
    }
    let ip = local.or(peer)?;
    let by_kernel = match ip {
        IpAddr::V6(ip) => ip.is_unicast_link_local() || flags & PERMANENT == 0,
        IpAddr::V4(_) => false,
    };
    let address = Address { ip, prefix_length: *body.get(1)?, broadcast };
    (!by_kernel).then_some((u32_at(body, 4)?, address))
}

pub(super) fn all_neighbours() -> Request {
    Request::new(libc::RTM_GETNEIGH, &[0; NEIGHBOUR_LEN])
}

pub(super) fn add_neighbour(index: u32, neighbour: &Neighbour) -> Request {
    of_neighbour(libc::RTM_NEWNEIGH, index, neighbour)
}

pub(super) fn remove_neighbour(index: u32, neighbour: &Neighbour) -> Request {
    of_neighbour(libc::RTM_DELNEIGH, index, neighbour)
}

fn of_neighbour(kind: u16, index: u32, neighbour: &Neighbour) -> Request {
    let family = [family(neighbour.ip.is_ipv6()), 0, 0, 0];
    let [high, low] = libc::NUD_PERMANENT.to_ne_bytes();
    let fixed = [family, index.to_ne_bytes(), [high, low, 0, 0]];
    Request::new(kind, fixed.as_flattened())
        .with(libc::NDA_DST, &wanted::octets(neighbour.ip))
        .with(libc::NDA_LLADDR, &neighbour.mac)
}

/// With the index of its device. Not those that the kernel found.
pub(super) fn read_neighbour(body: &[u8]) -> Option<(u32, Neighbour)> {
    if u16_at(body, 8)? != libc::NUD_PERMANENT {
        return None;
    }
    let (mut ip, mut mac) = (None, Vec::new());
    for (attribute, value) in attributes(body, NEIGHBOUR_LEN) {
        match attribute {
            libc::NDA_DST => ip = wanted::ip(value),
            libc::NDA_LLADDR => mac = value.to_vec(),
            _ => {}
        }
    }
    Some((u32_at(body, 4)?, Neighbour { ip: ip?, mac }))
}

/// Of all families.
pub(super) fn all_routes() -> Request {
    Request::new(libc::RTM_GETROUTE, &[0; ROUTE_LEN])
}

pub(super) fn add_route(index: u32, route: &Route) -> Request {
    of_route(libc::RTM_NEWROUTE, index, route)
}

pub(super) fn remove_route(index: u32, route: &Route) -> Request {
    of_route(libc::RTM_DELROUTE, index, route)
}

fn of_route(kind: u16, index: u32, route: &Route) -> Request {
    // A table of a greater number is in the attribute alone.
    let table = u8::try_from(route.table).unwrap_or_default();
    let fixed = [
        [family(route.ipv6), route.prefix_length, 0, 0],
        [table, route.protocol, route.scope, route.kind],
        route.flags.to_ne_bytes(),
    ];
    let mut request = Request::new(kind, fixed.as_flattened())
        .with(libc::RTA_OIF, &index.to_ne_bytes())
        .with(libc::RTA_TABLE, &route.table.to_ne_bytes());
    let addresses = [
        (libc::RTA_DST, route.destination),
        (libc::RTA_GATEWAY, route.gateway),
        (libc::RTA_PREFSRC, route.preferred_source),
    ];
    for (attribute, ip) in addresses {
        if let Some(ip) = ip {
            request = request.with(attribute, &wanted::octets(ip));
        }
    }
    if route.metric == 0 { request } else { request.with(libc::RTA_PRIORITY, &route.metric.to_ne_bytes()) }
}

/// With the index of the device it leads over. Not those that come with an address, or by a router's word.
pub(super) fn read_route(body: &[u8]) -> Option<(u32, Route)> {
    let [family, prefix_length, _, _, table, protocol, scope, kind] = *body.first_chunk()?;
    let flags = u32_at(body, 8)?;
    let by_kernel =
        PROTOCOLS_OF_KERNEL.contains(&protocol) || KINDS_OF_KERNEL.contains(&kind) || flags & CLONED != 0;
    if by_kernel || !matches!(family, INET | INET6) {
        return None;
    }
    let mut route = Route {
        ipv6: family == INET6,
        destination: None,
        prefix_length,
        gateway: None,
        preferred_source: None,
        scope,
        protocol,
        table: table.into(),
        metric: 0,
        flags,
        kind,
    };
    let mut over = None;
    for (attribute, value) in attributes(body, ROUTE_LEN) {
        match attribute {
            libc::RTA_OIF => over = u32_at(value, 0),
            libc::RTA_TABLE => route.table = u32_at(value, 0)?,
            libc::RTA_DST => route.destination = wanted::ip(value),
            libc::RTA_GATEWAY => route.gateway = wanted::ip(value),
            libc::RTA_PREFSRC => route.preferred_source = wanted::ip(value),
            libc::RTA_PRIORITY => route.metric = u32_at(value, 0)?,
            _ => {}
        }
    }
    (route.table != LOCAL_TABLE).then_some((over?, route.settled()))
}

fn family(ipv6: bool) -> u8 {
    if ipv6 { INET6 } else { INET }
}
