//! What the kernel has of a network, and the changes that make it another one (rtnetlink(7)).

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{OwnedFd, RawFd};

use super::NetworkError;
use super::messages::{self, Link};
use super::netlink::{self, Request, Socket};
use super::wanted::{Address, Interface, Neighbour, Route, Wanted};

/// What a device is called that is no interface of anybody's; the kernel counts.
const UNUSED: &str = "unused%d";

/// One socket, for one change of the network.
pub(super) struct Kernel {
    socket: Socket,
}

impl Kernel {
    pub(super) fn connect() -> Result<Self, NetworkError> {
        Self::over(netlink::open().map_err(NetworkError::Socket)?)
    }

    /// By a socket that may be in another network namespace.
    pub(super) fn over(socket: OwnedFd) -> Result<Self, NetworkError> {
        Ok(Self { socket: Socket::new(socket).map_err(NetworkError::Socket)? })
    }

    /// All devices there are but the loopback, by index.
    pub(super) async fn devices(&mut self) -> Result<Vec<u32>, NetworkError> {
        let links = self.list("devices", &messages::all_links(), messages::read_link).await?;
        Ok(links.iter().filter(|link| !link.is_loopback).map(|link| link.index).collect())
    }

    /// Has another network namespace have a device.
    pub(super) async fn move_device(&mut self, index: u32, namespace: RawFd) -> Result<(), NetworkError> {
        let doing = format!("move the device {index} to another network namespace");
        self.change(doing, &messages::move_link(index, namespace)).await
    }

    /// Makes the network of these devices what is wanted, by as little as is between the two.
    pub(super) async fn become_what(&mut self, wanted: &Wanted, devices: &[u32]) -> Result<(), NetworkError> {
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
    async fn links(&mut self, devices: &[u32]) -> Result<HashMap<u32, Link>, NetworkError> {
        let mut links = HashMap::new();
        for link in self.list("devices", &messages::all_links(), messages::read_link).await? {
            if link.is_loopback && !link.is_up {
                self.change("set up the loopback", &messages::set_link(link.index, true)).await?;
            } else if devices.contains(&link.index) {
                links.insert(link.index, link);
            }
        }
        let addresses = self.list("addresses", &messages::all_addresses(), messages::read_address).await?;
        for (index, address) in addresses {
            if let Some(link) = links.get_mut(&index) {
                link.addresses.push(address);
            }
        }
        Ok(links)
    }

    /// Takes out of use whatever is not, or not under its name, wanted any more.
    async fn retire(
        &mut self,
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
                self.change(doing(), &messages::set_link(*index, false)).await?;
            }
            for address in link.addresses.iter().filter(|address| address.ip.is_ipv4()) {
                self.remove_address(link, address).await?;
            }
            self.change(doing(), &messages::rename_link(*index, UNUSED)).await?;
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
    async fn settle(&mut self, interface: &Interface, link: &Link) -> Result<(), NetworkError> {
        let mut change = messages::set_link(link.index, true);
        // The kernel takes all of one message, and sets the device up last.
        let has_name = link.name == interface.name;
        if !has_name {
            change = messages::with_name(change, &interface.name);
        }
        let has_mac = link.mac == interface.mac;
        if !has_mac {
            change = messages::with_mac(change, interface.mac);
        }
        let has_mtu = interface.mtu == 0 || link.mtu == interface.mtu;
        if !has_mtu {
            change = messages::with_mtu(change, interface.mtu);
        }
        if !(link.is_up && has_name && has_mac && has_mtu) {
            let doing = format!("set up the interface {:?}", interface.name);
            self.change(doing, &change).await?;
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
        &mut self,
        interface: &Interface,
        index: u32,
        address: &Address,
    ) -> Result<(), NetworkError> {
        let Address { ip, prefix_length, .. } = address;
        let doing = format!("give the interface {:?} the address {ip}/{prefix_length}", interface.name);
        self.put(doing, &messages::add_address(index, address)).await
    }

    async fn remove_address(&mut self, link: &Link, address: &Address) -> Result<(), NetworkError> {
        match self.socket.change(&messages::remove_address(link.index, address)).await {
            // It went with another one.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(()),
            Err(source) => {
                let doing = format!("take the address {} from the interface {:?}", address.ip, link.name);
                Err(NetworkError::Change { doing, source })
            }
            Ok(()) => Ok(()),
        }
    }

    async fn neighbours(&mut self, devices: &[u32]) -> Result<Vec<(u32, Neighbour)>, NetworkError> {
        let found = self.list("neighbours", &messages::all_neighbours(), messages::read_neighbour).await?;
        Ok(found.into_iter().filter(|(index, _)| devices.contains(index)).collect())
    }

    async fn settle_neighbours(
        &mut self,
        wanted: &[(u32, &str, &Neighbour)],
        found: &[(u32, Neighbour)],
    ) -> Result<(), NetworkError> {
        for (index, neighbour) in found {
            if !wanted.iter().any(|(at, _, one)| (at, *one) == (index, neighbour)) {
                let doing = format!("forget the neighbour {}", neighbour.ip);
                self.change(doing, &messages::remove_neighbour(*index, neighbour)).await?;
            }
        }
        for (index, name, neighbour) in wanted {
            if !found.iter().any(|(at, one)| (at, one) == (index, *neighbour)) {
                let doing = format!("know the neighbour {} at the interface {name:?}", neighbour.ip);
                self.put(doing, &messages::add_neighbour(*index, neighbour)).await?;
            }
        }
        Ok(())
    }

    async fn routes(&mut self, devices: &[u32]) -> Result<Vec<(u32, Route)>, NetworkError> {
        let found = self.list("routes", &messages::all_routes(), messages::read_route).await?;
        Ok(found.into_iter().filter(|(index, _)| devices.contains(index)).collect())
    }

    async fn settle_routes(
        &mut self,
        wanted: &[(u32, &str, &Route)],
        found: &[(u32, Route)],
    ) -> Result<(), NetworkError> {
        for (index, route) in found {
            if !wanted.iter().any(|(over, _, one)| (over, *one) == (index, route)) {
                let doing = format!("take the route {route} away");
                self.change(doing, &messages::remove_route(*index, route)).await?;
            }
        }
        for (index, name, route) in wanted {
            if !found.iter().any(|(over, one)| (over, one) == (index, *route)) {
                let doing = format!("add the route {route} over the interface {name:?}");
                self.put(doing, &messages::add_route(*index, route)).await?;
            }
        }
        Ok(())
    }

    async fn list<T>(
        &mut self,
        what: &'static str,
        request: &Request,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, NetworkError> {
        self.socket.list(request, read).await.map_err(|source| NetworkError::Read { what, source })
    }

    async fn change(&mut self, doing: impl Into<String>, request: &Request) -> Result<(), NetworkError> {
        let changed = self.socket.change(request).await;
        changed.map_err(|source| NetworkError::Change { doing: doing.into(), source })
    }

    async fn put(&mut self, doing: String, request: &Request) -> Result<(), NetworkError> {
        self.socket.put(request).await.map_err(|source| NetworkError::Change { doing, source })
    }
}

/// Those over known interfaces, which all that are wanted are.
fn over<'a, T>(
    wanted: &'a [(String, T)],
    indexes: &HashMap<&str, u32>,
) -> impl Iterator<Item = (u32, &'a str, &'a T)> {
    wanted.iter().filter_map(|(name, one)| Some((*indexes.get(name.as_str())?, name.as_str(), one)))
}

#[cfg(test)]
mod tests;
