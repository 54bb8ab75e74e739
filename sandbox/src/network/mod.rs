//! A pod's network, given to its guest: each interface of the pod's network namespace gets a tap beside it, all packets cross
//! between the two, and the guest has an interface of the same name, addresses and routes behind the tap.

mod names;
mod namespace;
mod pod;
mod ports;
mod tap;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use agent_api::agent::{Interface, SetNetworkRequest};
use agent_api::ports::NAME_PORT;
use host_calls::Tap;
use tokio::sync::mpsc;
use vmm_api::{FdIndex, Net, Place, Reply, Request};

use crate::config::{NetworkConfig, NetworkRates};
use crate::guest::{Guest, GuestError};
use crate::sandbox::Sandbox;
use crate::vmm::{Incoming, VmmError, VmmHandle};

use self::pod::{Pod, PodInterface};
use self::ports::ForwardedPorts;

pub use namespace::{NamespaceError, NetworkNamespace};
pub use ports::PortsError;

/// The most pairs of queues of a device of the guest.
const MAX_QUEUES: u8 = 8;

/// Why the guest did not get its network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("the sandbox's network namespace is this host's own, which a guest cannot be given")]
    OfHost,
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    #[error("cannot talk to the kernel of the sandbox's network namespace")]
    Socket(#[source] io::Error),
    #[error("cannot {doing} in the sandbox's network namespace")]
    Netlink { doing: &'static str, source: rtnetlink::Error },
    #[error("cannot make a tap beside the interface {interface}")]
    Tap { interface: String, source: io::Error },
    #[error("the interface {0} is not of Ethernet's kind, and cannot be given to a guest")]
    NotEthernet(String),
    #[error(transparent)]
    Vmm(#[from] VmmError),
    #[error(transparent)]
    Guest(#[from] GuestError),
}

/// What a sandbox has of a network.
pub(crate) struct Network {
    namespace: Option<NetworkNamespace>,
    rates: NetworkRates,
    /// Pairs of queues of each device.
    queues: u8,
    /// Which of the namespace's interfaces each of the guest's devices belongs to, by index; one that is gone leaves a device
    /// for another.
    devices: Vec<Option<u32>>,
    /// Streams the guest opens, until somebody answers them.
    incoming: Option<mpsc::Receiver<Incoming>>,
    ports: Option<ForwardedPorts>,
}

/// The device that a template has a place for, whose VM has so many vCPUs.
pub(crate) fn place(vcpus: u8) -> Place {
    Place::Net { name: device_name(0), queues: queues(vcpus) }
}

/// A pair of queues for each vCPU, as a guest's driver would have it.
fn queues(vcpus: u8) -> u8 {
    vcpus.clamp(1, MAX_QUEUES)
}

/// As requests to the VMM call the device.
fn device_name(device: usize) -> String {
    format!("net{device}")
}

impl Network {
    pub(crate) fn of(config: Option<NetworkConfig>, vcpus: u8, incoming: mpsc::Receiver<Incoming>) -> Self {
        let rates = config.as_ref().map(|config| config.rates).unwrap_or_default();
        let namespace = config.map(|config| config.namespace);
        let queues = queues(vcpus);
        Self { namespace, rates, queues, devices: Vec::new(), incoming: Some(incoming), ports: None }
    }

    /// Has a device of the guest for each interface that is there, and says what the guest is to make of them.
    async fn follow(&mut self, vmm: &VmmHandle) -> Result<SetNetworkRequest, NetworkError> {
        let (pod, mut taps) = match &self.namespace {
            Some(namespace) => {
                look(namespace, self.devices.iter().flatten().copied().collect(), self.queues).await?
            }
            None => (Pod::default(), HashMap::new()),
        };
        let Pod { interfaces: found, routes, neighbours } = pod;
        for (device, held) in self.devices.iter_mut().enumerate() {
            let is_gone = |index: &mut u32| found.iter().all(|interface| interface.index != *index);
            if held.take_if(is_gone).is_some() {
                remove(vmm, device).await?;
            }
        }
        let mut interfaces = Vec::new();
        for PodInterface { index, mac, told } in found {
            if let Some(tap) = taps.remove(&index) {
                self.add(vmm, index, mac, tap).await?;
            }
            let device = self.devices.iter().position(|held| *held == Some(index));
            let device = device.and_then(|device| u32::try_from(device).ok());
            interfaces.extend(device.map(|device| Interface { device, ..told }));
        }
        Ok(SetNetworkRequest { interfaces, routes, neighbours, ..Default::default() })
    }

    /// Has the guest's first free device be of an interface, or one more.
    async fn add(&mut self, vmm: &VmmHandle, index: u32, mac: [u8; 6], tap: Tap) -> Result<(), NetworkError> {
        let device = self.devices.iter().position(Option::is_none).unwrap_or(self.devices.len());
        let place = Place::Net { name: device_name(device), queues: self.queues };
        // Refused where there is one: a template's, or one that was used before. So a device stays when its interface goes,
        // and the order of the guest's devices never changes.
        let _ = vmm.call(Request::AddPlace(place), Vec::new()).await;
        // What is limited the VMM carries itself.
        let vhost = if self.rates == NetworkRates::default() { vhost(self.queues) } else { Vec::new() };
        let further = (self.queues..).map(FdIndex);
        let net = Net {
            name: device_name(device),
            queues: (0..self.queues).map(FdIndex).collect(),
            vhost: further.take(vhost.len()).collect(),
            mac,
            transmit: self.rates.egress,
            receive: self.rates.ingress,
        };
        match vmm.call(Request::AddNet(net), tap.queues.into_iter().chain(vhost).collect()).await? {
            (Reply::NetAdded, _) => {}
            _ => return Err(VmmError::WrongReply.into()),
        }
        match self.devices.get_mut(device) {
            Some(free) => *free = Some(index),
            None => self.devices.push(Some(index)),
        }
        Ok(())
    }

    /// Answers the guest's questions for names from now on.
    async fn relay_names(&mut self, vmm: &VmmHandle) -> Result<(), NetworkError> {
        let (Some(namespace), Some(incoming)) = (&self.namespace, self.incoming.take()) else {
            return Ok(());
        };
        names::serve(namespace, incoming)?;
        Ok(vmm.listen(NAME_PORT).await?)
    }

    /// Has connections to the namespace's loopback go to the guest's from now on.
    async fn forward_ports(&mut self, guest: &Guest) -> Result<(), PortsError> {
        if let (Some(namespace), None) = (&self.namespace, &self.ports) {
            self.ports = Some(ForwardedPorts::of(namespace, guest.dialer()).await?);
        }
        Ok(())
    }
}

/// The host's kernel, to carry the packets of so many queues; none where it cannot, or we may not ask it.
fn vhost(queues: u8) -> Vec<OwnedFd> {
    let open = |_| File::options().read(true).write(true).open("/dev/vhost-net").map(OwnedFd::from);
    (0..queues).map(open).collect::<Result<_, _>>().unwrap_or_default()
}

async fn remove(vmm: &VmmHandle, device: usize) -> Result<(), NetworkError> {
    match vmm.call(Request::RemoveNet { name: device_name(device) }, Vec::new()).await? {
        (Reply::NetRemoved, _) => Ok(()),
        _ => Err(VmmError::WrongReply.into()),
    }
}

/// Reads what the namespace has, and makes taps with so many queues beside those of its interfaces that are not `held` yet,
/// by their indices.
async fn look(
    namespace: &NetworkNamespace,
    held: Vec<u32>,
    queues: u8,
) -> Result<(Pod, HashMap<u32, Tap>), NetworkError> {
    // Of a host, every packet would go to the guest.
    if namespace.is_own().map_err(NetworkError::Socket)? {
        return Err(NetworkError::OfHost);
    }
    let looking = move || async move {
        let (connection, netlink, _) = rtnetlink::new_connection().map_err(NetworkError::Socket)?;
        // Ends with this runtime.
        tokio::spawn(connection);
        let pod = Pod::read(&netlink).await?;
        let mut taps = HashMap::new();
        for interface in pod.interfaces.iter().filter(|interface| !held.contains(&interface.index)) {
            taps.insert(interface.index, tap::beside(&netlink, interface, queues).await?);
        }
        Ok((pod, taps))
    };
    namespace.run_async(looking).await?
}

impl Sandbox {
    /// Gives the guest the interfaces of its network namespace as they are now: those that are new since the last time are
    /// added, those that are gone are removed. A sandbox without a namespace of its own gets nothing but its loopback. With
    /// `name_relay`, DNS on the guest's 127.0.0.11 is answered by what answers it in the namespace.
    pub async fn take_network(&self, name_relay: bool) -> Result<(), NetworkError> {
        let mut network = self.network.lock().await;
        let mut request = network.follow(self.vmm.handle()).await?;
        if name_relay {
            network.relay_names(self.vmm.handle()).await?;
        }
        request.name_relay = name_relay;
        Ok(self.guest.set_network(&request).await?)
    }

    /// Has who connects to a port of the loopback in the sandbox's network namespace on this host reach the guest's, for as
    /// long as the sandbox is there. Whoever else listens there in that namespace is not reached meanwhile.
    pub async fn forward_ports(&self) -> Result<(), PortsError> {
        self.network.lock().await.forward_ports(&self.guest).await
    }
}

#[cfg(test)]
mod tests;
