//! A request for the network, checked and in the kernel's terms. What is read back from the kernel has the same form, so that
//! the two can be compared.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use agent_api::agent::{self, SetNetworkRequest};

use super::NetworkError;

/// The most of anything that a request may name: a pod has a few.
const MOST: usize = 4096;

/// With its end, as the kernel has it (Linux include/uapi/linux/if.h, IFNAMSIZ).
const NAME_LEN: usize = 16;

const UNICAST: u8 = 1;
const BOOT_PROTOCOL: u8 = 3;
const MAIN_TABLE: u32 = 254;

/// RTNH_F_ONLINK: the gateway is in reach, whatever the routes say. The other flags are the kernel's to set.
const ONLINK: u32 = 4;

/// Linux include/net/ipv6.h, IP6_RT_PRIO_USER.
const IPV6_METRIC: u32 = 1024;

#[derive(Debug, PartialEq)]
pub(super) struct Wanted {
    pub(super) interfaces: Vec<Interface>,
    /// With the name of the interface each leads over, in an order in which they work.
    pub(super) routes: Vec<(String, Route)>,
    pub(super) neighbours: Vec<(String, Neighbour)>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Interface {
    pub(super) device: usize,
    pub(super) name: String,
    pub(super) mac: [u8; 6],
    /// 0: as it is.
    pub(super) mtu: u32,
    pub(super) addresses: Vec<Address>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Address {
    pub(super) ip: IpAddr,
    pub(super) prefix_length: u8,
    pub(super) broadcast: Option<Ipv4Addr>,
}

/// All of a route but where it leads over.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Route {
    pub(super) ipv6: bool,
    /// `None`: the default route.
    pub(super) destination: Option<IpAddr>,
    pub(super) prefix_length: u8,
    pub(super) gateway: Option<IpAddr>,
    pub(super) preferred_source: Option<IpAddr>,
    pub(super) scope: u8,
    pub(super) protocol: u8,
    pub(super) table: u32,
    pub(super) metric: u32,
    pub(super) flags: u32,
    pub(super) kind: u8,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Neighbour {
    pub(super) ip: IpAddr,
    pub(super) mac: Vec<u8>,
}

impl Wanted {
    pub(super) fn of(request: &SetNetworkRequest) -> Result<Self, NetworkError> {
        let addresses = request.interfaces.iter().map(|interface| interface.addresses.len());
        let counts = [request.interfaces.len(), request.routes.len(), request.neighbours.len()];
        if counts.into_iter().chain(addresses).any(|count| count > MOST) {
            return Err(NetworkError::Request(format!("there is more of something than {MOST}")));
        }
        let interfaces = request.interfaces.iter().map(Interface::of).collect::<Result<Vec<_>, _>>()?;
        check_distinct(&interfaces)?;
        let mut routes = request
            .routes
            .iter()
            .map(|route| Ok((route.interface.clone(), Route::of(route)?)))
            .collect::<Result<Vec<_>, NetworkError>>()?;
        // A gateway must be in reach when a route names it, by a route of the first kind, or a narrow one.
        routes.sort_by_key(|(_, route)| (route.gateway.is_some(), route.destination.is_none()));
        let neighbours = request
            .neighbours
            .iter()
            .map(|neighbour| Ok((neighbour.interface.clone(), Neighbour::of(neighbour)?)))
            .collect::<Result<Vec<_>, NetworkError>>()?;
        let wanted = Self { interfaces, routes, neighbours };
        wanted.check_names()?;
        Ok(wanted)
    }

    fn check_names(&self) -> Result<(), NetworkError> {
        let known: HashSet<&str> = self.interfaces.iter().map(|interface| interface.name.as_str()).collect();
        for (name, route) in &self.routes {
            if !known.contains(name.as_str()) {
                return Err(NetworkError::Request(format!(
                    "the route {route} is over an unknown interface {name:?}"
                )));
            }
        }
        for (name, neighbour) in &self.neighbours {
            if !known.contains(name.as_str()) {
                let ip = neighbour.ip;
                return Err(NetworkError::Request(format!(
                    "the neighbour {ip} is at an unknown interface {name:?}"
                )));
            }
        }
        Ok(())
    }
}

fn check_distinct(interfaces: &[Interface]) -> Result<(), NetworkError> {
    let (mut devices, mut names) = (HashSet::new(), HashSet::new());
    for Interface { device, name, .. } in interfaces {
        if !devices.insert(device) || !names.insert(name) {
            return Err(NetworkError::Request(format!(
                "the interface {name:?} or its device is named twice"
            )));
        }
    }
    Ok(())
}

impl Interface {
    fn of(told: &agent::Interface) -> Result<Self, NetworkError> {
        let name = told.name.clone();
        let refused = |what: &str| NetworkError::Request(format!("{what} of the interface {name:?} is none"));
        let is_name = !matches!(name.as_str(), "" | "." | ".." | "lo")
            && name.len() < NAME_LEN
            && !name.contains(|c: char| c.is_whitespace() || matches!(c, '/' | ':' | '%' | '\0'));
        if !is_name {
            return Err(refused("the name"));
        }
        let addresses =
            told.addresses.iter().map(|address| Address::of(address).ok_or_else(|| refused("an address")));
        Ok(Self {
            device: usize::try_from(told.device).map_err(|_| refused("the device"))?,
            mac: told.mac.as_slice().try_into().map_err(|_| refused("the hardware address"))?,
            mtu: told.mtu,
            addresses: addresses.collect::<Result<_, _>>()?,
            name: name.clone(),
        })
    }
}

impl Address {
    fn of(told: &agent::Address) -> Option<Self> {
        let ip = ip(&told.ip)?;
        let broadcast = match (ip, told.broadcast.as_slice()) {
            (_, []) => None,
            (IpAddr::V4(_), broadcast) => Some(Ipv4Addr::from(<[u8; 4]>::try_from(broadcast).ok()?)),
            _ => return None,
        };
        Some(Self { ip, prefix_length: prefix_length(told.prefix_length, ip.is_ipv6())?, broadcast })
    }
}

impl Route {
    fn of(told: &agent::Route) -> Result<Self, NetworkError> {
        let over = &told.interface;
        let refused = || NetworkError::Request(format!("a route over the interface {over:?} is malformed"));
        let small = |number: u32| u8::try_from(number).map_err(|_| refused());
        let address = |bytes: &[u8]| match (bytes, ip(bytes)) {
            ([], _) => Ok(None),
            (_, Some(ip)) if ip.is_ipv6() == told.ipv6 => Ok(Some(ip)),
            _ => Err(refused()),
        };
        let prefix_length = prefix_length(told.prefix_length, told.ipv6).ok_or_else(refused)?;
        let route = Self {
            ipv6: told.ipv6,
            destination: address(&told.destination)?,
            prefix_length,
            gateway: address(&told.gateway)?,
            preferred_source: address(&told.preferred_source)?,
            scope: small(told.scope)?,
            protocol: small(told.protocol)?,
            table: told.table,
            metric: told.metric,
            flags: told.flags,
            kind: small(told.type_)?,
        };
        if route.destination.is_none() && prefix_length != 0 {
            return Err(refused());
        }
        Ok(route.settled())
    }

    /// With what the kernel, or ip(8), puts in the place of what is not said.
    pub(super) fn settled(mut self) -> Self {
        let or = |number, default| if number == 0 { default } else { number };
        if self.prefix_length == 0 && self.destination.is_some_and(|ip| ip.is_unspecified()) {
            self.destination = None;
        }
        self.flags &= ONLINK;
        self.kind = or(self.kind, UNICAST);
        self.protocol = or(self.protocol, BOOT_PROTOCOL);
        if self.table == 0 {
            self.table = MAIN_TABLE;
        }
        if self.ipv6 {
            // Without meaning there.
            self.scope = 0;
            if self.metric == 0 {
                self.metric = IPV6_METRIC;
            }
        }
        self
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.destination {
            Some(destination) => write!(f, "to {destination}/{}", self.prefix_length)?,
            None => f.write_str("by default")?,
        }
        self.gateway.map_or(Ok(()), |gateway| write!(f, " via {gateway}"))
    }
}

impl Neighbour {
    fn of(told: &agent::Neighbour) -> Result<Self, NetworkError> {
        match ip(&told.ip) {
            Some(ip) if told.mac.len() == 6 => Ok(Self { ip, mac: told.mac.clone() }),
            _ => {
                let at = &told.interface;
                Err(NetworkError::Request(format!("a neighbour at the interface {at:?} is malformed")))
            }
        }
    }
}

pub(super) fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// Of 4 or 16 bytes.
pub(super) fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(octets).into());
    }
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into())
}

fn prefix_length(told: u32, ipv6: bool) -> Option<u8> {
    let longest = if ipv6 { 128 } else { 32 };
    u8::try_from(told).ok().filter(|length| *length <= longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(device: u32, name: &str) -> agent::Interface {
        agent::Interface { device, name: name.to_owned(), mac: vec![2; 6], ..Default::default() }
    }

    fn route(destination: &[u8], prefix_length: u32, gateway: &[u8]) -> agent::Route {
        agent::Route {
            destination: destination.to_vec(),
            prefix_length,
            gateway: gateway.to_vec(),
            interface: "eth0".to_owned(),
            ..Default::default()
        }
    }

    fn of_routes(routes: Vec<agent::Route>) -> Result<Wanted, NetworkError> {
        let interfaces = vec![interface(0, "eth0")];
        Wanted::of(&SetNetworkRequest { interfaces, routes, ..Default::default() })
    }

    #[test]
    fn a_gateway_is_in_reach_before_a_route_names_it() {
        let wanted = of_routes(vec![
            route(&[], 0, &[169, 254, 1, 1]),
            route(&[10, 0, 0, 0], 8, &[169, 254, 1, 2]),
            route(&[], 0, &[]),
            route(&[169, 254, 1, 0], 24, &[]),
        ])
        .unwrap();
        let order: Vec<_> = wanted.routes.iter().map(|(_, route)| route.to_string()).collect();
        assert_eq!(
            order,
            [
                "to 169.254.1.0/24",
                "by default",
                "to 10.0.0.0/8 via 169.254.1.2",
                "by default via 169.254.1.1"
            ]
        );
    }

    #[test]
    fn requests_that_make_no_network_are_refused() {
        let refused = |routes| matches!(of_routes(routes), Err(NetworkError::Request(_)));
        assert!(refused(vec![route(&[10, 0, 0], 8, &[])]));
        assert!(refused(vec![route(&[10, 0, 0, 0], 33, &[])]));
        assert!(refused(vec![route(&[], 8, &[])]));
        assert!(refused(vec![agent::Route { ipv6: true, ..route(&[10, 0, 0, 0], 8, &[]) }]));
        assert!(refused(vec![agent::Route { interface: "eth1".to_owned(), ..route(&[], 0, &[]) }]));
        let interfaces = |interfaces| Wanted::of(&SetNetworkRequest { interfaces, ..Default::default() });
        for name in ["", "lo", "a/b", "eth%d", "a b", "sixteen-and-more"] {
            assert!(interfaces(vec![interface(0, name)]).is_err(), "{name}");
        }
        assert!(interfaces(vec![interface(0, "a"), interface(0, "b")]).is_err());
        assert!(interfaces(vec![interface(0, "a"), interface(1, "a")]).is_err());
        assert!(interfaces(vec![agent::Interface { mac: vec![2; 5], ..interface(0, "a") }]).is_err());
    }
}
