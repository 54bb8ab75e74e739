//! The guest's network, as the supervisor wants it: that of the pod's network namespace on the host.
//!
//! [`wanted`] is the request, checked; [`devices`] finds what it is about; [`kernel`] is what there is, and how it changes
//! (rtnetlink(7)). What is right already is left alone, so that no connection breaks by being told the same again.

mod devices;
mod dns;
mod kernel;
pub(crate) mod loopback;
mod messages;
mod name_relay;
mod netlink;
mod parking;
mod wanted;

use std::io;

use agent_api::agent::SetNetworkRequest;
use tokio::sync::{Mutex, OnceCell};

use self::kernel::Kernel;
use self::wanted::Wanted;
use crate::disks::DiskError;

pub(crate) use parking::park;

#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    #[error("{0}")]
    Request(String),
    #[error("cannot talk to the kernel about the network")]
    Socket(#[source] io::Error),
    #[error("cannot read the kernel's {what}")]
    Read { what: &'static str, source: io::Error },
    #[error("cannot find the network's devices")]
    Sysfs(#[source] io::Error),
    #[error("there is no network device {device} for the interface {interface:?}: there are {found}")]
    NoDevice { interface: String, device: usize, found: usize },
    #[error(transparent)]
    Look(#[from] DiskError),
    #[error("cannot {doing}")]
    Change { doing: String, source: io::Error },
    #[error("cannot answer DNS")]
    NameRelay(#[source] io::Error),
}

/// Makes the network what the request says.
pub(crate) async fn set(request: &SetNetworkRequest) -> Result<(), NetworkError> {
    // What one request reads, another must not change meanwhile.
    static TURN: Mutex<()> = Mutex::const_new(());
    let _turn = TURN.lock().await;

    let wanted = Wanted::of(request)?;
    if !wanted.interfaces.is_empty() {
        parking::fetch().await?;
    }
    let devices = devices::find(&wanted).await?;
    Kernel::connect()?.become_what(&wanted, &devices).await?;
    if request.name_relay {
        static RELAY: OnceCell<()> = OnceCell::const_new();
        RELAY.get_or_try_init(name_relay::start).await.map_err(NetworkError::NameRelay)?;
    }
    Ok(())
}
