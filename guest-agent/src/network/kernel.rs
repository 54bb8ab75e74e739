//! What the kernel has of a network, and the changes that make it another one (rtnetlink(7)).

use std::collections::{HashMap, HashSet};
use std::io;

use futures_util::{Stream, TryStreamExt};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::{Handle, LinkUnspec};

use super::NetworkError;
use super::messages;
use super::wanted::{Address, Interface, Neighbour, Route, Wanted};

/// What a device is called that is no interface of anybody's; the kernel counts.
const UNUSED: &str = "unused%d";

/// One socket, for one change of the network.
pub(super) struct Kernel {
    netlink: Handle,
}

/// A device as it is.
#[derive(Debug, Default)]
struct Link {
    index: u32,
    name: String,
    mac: Vec<u8>,
    mtu: u32,
    is_up: bool,
    addresses: Vec<Address>,
}

impl Kernel {
    pub(super) fn connect() -> Result<Self, NetworkError> {
        let (connection, netlink, _) = rtnetlink::new_connection().map_err(NetworkError::Socket)?;
        // Ends with the last handle.
        tokio::spawn(connection);
        Ok(Self { netlink })
    }

    /// Makes the network of these devices what is wanted, by as little as is between the two.
    pub(super) async fn become_what(&self, wanted: &Wanted, devices: &[u32]) -> Result<(), NetworkError> {
        let mut links = self.links(devices).await?;
        let was_in_use = links.values().any(|link| link.is_up);
        self.retire(wanted, devices, &mut links).await?;
        let mut indexes = HashMap::new();
        for interface in &wanted.interfaces {
            let link = devices.get(interface.device).and_then(|index| links.get(index));
            let link = link.ok_or_else(|| NetworkError::NoDevice {
                interface: interface.name.clone(),
                device: interface.device,
                found: devices.len(),
            })?;
            self.settle(interface, link).await?;
            indexes.insert(interface.name.as_str(), link.index);
        }
        // Nothing leads over devices that are down.
        let (neighbours, routes) = match was_in_use {
            true => (self.neighbours(devices).await?, self.routes(devices).await?),
            false => Default::default(),
        };
        let wanted_neighbours: Vec<_> = over(&wanted.neighbours, &indexes).collect();
        self.settle_neighbours(&wanted_neighbours, &neighbours).await?;
        let wanted_routes: Vec<_> = over(&wanted.routes, &indexes).collect();
        self.settle_routes(&wanted_routes, &routes).await
    }

    /// The devices, by index. Has the loopback up by the way.
    async fn links(&self, devices: &[u32]) -> Result<HashMap<u32, Link>, NetworkError> {
        let mut links = HashMap::new();
        for message in all("devices", self.netlink.link().get().execute()).await? {
            let link = link(&message);
            if message.header.flags.contains(LinkFlags::Loopback) && !link.is_up {
                let up = LinkUnspec::new_with_index(link.index).up().build();
                self.change_link("set up the loopback", up).await?;
            } else if devices.contains(&link.index) {
                links.insert(link.index, link);
            }
        }
        for message in all("addresses", self.netlink.address().get().execute()).await? {
            if let (Some(link), Some(address)) =
                (links.get_mut(&message.header.index), messages::read_address(&message))
            {
                link.addresses.push(address);
            }
        }
        Ok(links)
    }

    /// Takes out of use whatever is not, or not under its name, wanted any more.
    async fn retire(
        &self,
        wanted: &Wanted,
        devices: &[u32],
        links: &mut HashMap<u32, Link>,
    ) -> Result<(), NetworkError> {
        let names: HashSet<&str> =
            wanted.interfaces.iter().map(|interface| interface.name.as_str()).collect();
        for (device, index) in devices.iter().enumerate() {
            let Some(link) = links.get_mut(index) else { continue };
            let interface = wanted.interfaces.iter().find(|interface| interface.device == device);
            let is_right = interface.is_some_and(|interface| interface.name == link.name);
            let is_in_use = link.is_up || !link.addresses.is_empty();
            if is_right || !(is_in_use || names.contains(link.name.as_str())) {
                continue;
            }
            let doing = || format!("take the interface {:?} out of use", link.name);
            if link.is_up {
                // IPv6 addresses go by it, and all routes and neighbours.
                self.change_link(doing(), LinkUnspec::new_with_index(*index).down().build()).await?;
            }
            for address in link.addresses.iter().filter(|address| address.ip.is_ipv4()) {
                self.remove_address(link, address).await?;
            }
            self.change_link(doing(), LinkUnspec::new_with_index(*index).name(UNUSED).build()).await?;
            *link = Link {
                index: *index,
                mac: std::mem::take(&mut link.mac),
                mtu: link.mtu,
                ..Default::default()
            };
        }
        Ok(())
    }

    /// Makes one device an interface.
    async fn settle(&self, interface: &Interface, link: &Link) -> Result<(), NetworkError> {
        let mut change = LinkUnspec::new_with_index(link.index);
        // The kernel takes all of one message, and sets the device up last.
        let has_name = link.name == interface.name;
        if !has_name {
            change = change.name(interface.name.clone());
        }
        let has_mac = link.mac == interface.mac;
        if !has_mac {
            change = change.address(interface.mac.to_vec());
        }
        let has_mtu = interface.mtu == 0 || link.mtu == interface.mtu;
        if !has_mtu {
            change = change.mtu(interface.mtu);
        }
        if !(link.is_up && has_name && has_mac && has_mtu) {
            let doing = format!("set up the interface {:?}", interface.name);
            self.change_link(doing, change.up().build()).await?;
        }
        let stale: Vec<_> =
            link.addresses.iter().filter(|address| !interface.addresses.contains(address)).collect();
        for address in &stale {
            self.remove_address(link, address).await?;
        }
        for address in &interface.addresses {
            // With an address go those of the same network that came after it (Linux ip-sysctl, promote_secondaries).
            if !stale.is_empty() || !link.addresses.contains(address) {
                self.add_address(interface, link.index, address).await?;
            }
        }
        Ok(())
    }

    async fn add_address(
        &self,
        interface: &Interface,
        index: u32,
        address: &Address,
    ) -> Result<(), NetworkError> {
        let Address { ip, prefix_length, .. } = address;
        let mut request = self.netlink.address().add(index, *ip, *prefix_length).replace();
        *request.message_mut() = messages::address(index, address);
        let doing = || format!("give the interface {:?} the address {ip}/{prefix_length}", interface.name);
        request.execute().await.map_err(|error| failed(doing(), &error))
    }

    async fn remove_address(&self, link: &Link, address: &Address) -> Result<(), NetworkError> {
        let request = self.netlink.address().del(messages::address(link.index, address));
        match request.execute().await.map_err(io_error) {
            // It went with another one.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(()),
            Err(source) => {
                let doing = format!("take the address {} from the interface {:?}", address.ip, link.name);
                Err(NetworkError::Change { doing, source })
            }
            Ok(()) => Ok(()),
        }
    }

    async fn neighbours(&self, devices: &[u32]) -> Result<Vec<(u32, Neighbour)>, NetworkError> {
        let found = all("neighbours", self.netlink.neighbours().get().execute()).await?;
        let ours = found.iter().filter(|neighbour| devices.contains(&neighbour.header.ifindex));
        Ok(ours.filter_map(messages::read_neighbour).collect())
    }

    async fn settle_neighbours(
        &self,
        wanted: &[(u32, &str, &Neighbour)],
        found: &[(u32, Neighbour)],
    ) -> Result<(), NetworkError> {
        for (index, neighbour) in found {
            if !wanted.iter().any(|(at, _, one)| (at, *one) == (index, neighbour)) {
                let request = self.netlink.neighbours().del(messages::neighbour(*index, neighbour));
                let doing = || format!("forget the neighbour {}", neighbour.ip);
                request.execute().await.map_err(|error| failed(doing(), &error))?;
            }
        }
        for (index, name, neighbour) in wanted {
            if !found.iter().any(|(at, one)| (at, one) == (index, *neighbour)) {
                let mut request = self.netlink.neighbours().add(*index, neighbour.ip).replace();
                *request.message_mut() = messages::neighbour(*index, neighbour);
                let doing = || format!("know the neighbour {} at the interface {name:?}", neighbour.ip);
                request.execute().await.map_err(|error| failed(doing(), &error))?;
            }
        }
        Ok(())
    }

    async fn routes(&self, devices: &[u32]) -> Result<Vec<(u32, Route)>, NetworkError> {
        // Without a family: of all.
        let found = all("routes", self.netlink.route().get(Default::default()).execute()).await?;
        let read = found.iter().filter_map(messages::read_route);
        Ok(read.filter(|(index, _)| devices.contains(index)).collect())
    }

    async fn settle_routes(
        &self,
        wanted: &[(u32, &str, &Route)],
        found: &[(u32, Route)],
    ) -> Result<(), NetworkError> {
        for (index, route) in found {
            if !wanted.iter().any(|(over, _, one)| (over, *one) == (index, route)) {
                let request = self.netlink.route().del(messages::route(*index, route));
                let doing = || format!("take the route {route} away");
                request.execute().await.map_err(|error| failed(doing(), &error))?;
            }
        }
        for (index, name, route) in wanted {
            if !found.iter().any(|(over, one)| (over, one) == (index, *route)) {
                let request = self.netlink.route().add(messages::route(*index, route)).replace();
                let doing = || format!("add the route {route} over the interface {name:?}");
                request.execute().await.map_err(|error| failed(doing(), &error))?;
            }
        }
        Ok(())
    }

    async fn change_link(&self, doing: impl Into<String>, change: LinkMessage) -> Result<(), NetworkError> {
        let changed = self.netlink.link().change(change).execute().await;
        changed.map_err(|error| failed(doing.into(), &error))
    }
}

/// Those over known interfaces, which all that are wanted are.
fn over<'a, T>(
    wanted: &'a [(String, T)],
    indexes: &HashMap<&str, u32>,
) -> impl Iterator<Item = (u32, &'a str, &'a T)> {
    wanted.iter().filter_map(|(name, one)| Some((*indexes.get(name.as_str())?, name.as_str(), one)))
}

fn link(message: &LinkMessage) -> Link {
    let is_up = message.header.flags.contains(LinkFlags::Up);
    let mut link = Link { index: message.header.index, is_up, ..Default::default() };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(mac) => link.mac.clone_from(mac),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            _ => {}
        }
    }
    link
}

pub(super) async fn all<T>(
    what: &'static str,
    answers: impl Stream<Item = Result<T, rtnetlink::Error>>,
) -> Result<Vec<T>, NetworkError> {
    answers.try_collect().await.map_err(|error| NetworkError::Read { what, source: io_error(error) })
}

pub(super) fn failed(doing: String, error: &rtnetlink::Error) -> NetworkError {
    NetworkError::Change { doing, source: io_error(error.clone()) }
}

/// The kernel's refusals in its own words.
fn io_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(refusal) => refusal.to_io(),
        error => io::Error::other(error),
    }
}

#[cfg(test)]
mod tests;
