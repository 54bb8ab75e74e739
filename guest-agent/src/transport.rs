//! The vsock ports of the contract, as this guest binds them.

use std::io;

use agent_api::ports::{EVENT_PORT, HOST_CID, LOOPBACK_PORT, NAME_PORT, RPC_PORT, STREAM_PORT};
use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener, VsockStream};
use ttrpc::asynchronous::transport::Listener;

use crate::descriptor::Descriptor;
use crate::log;
use crate::network::loopback;
use crate::streams::Streams;

/// Where callers connect.
pub fn rpc_listener() -> io::Result<Listener> {
    Ok(Listener::from(bind(RPC_PORT)?))
}

/// Begins to take in the streams the host opens.
pub fn accept_streams(streams: Streams) -> io::Result<()> {
    accept(STREAM_PORT, "a stream", move |connection| streams.admit(connection.into()))
}

/// Begins to take in the connections the host makes to the guest's loopback.
pub fn accept_loopback() -> io::Result<()> {
    accept(LOOPBACK_PORT, "a connection to the loopback", loopback::serve)
}

fn accept(port: u32, what: &'static str, serve: impl Fn(VsockStream) + Send + 'static) -> io::Result<()> {
    let listener = bind(port)?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((connection, _)) => serve(connection),
                Err(error) => log::warn(format_args!("cannot accept {what}: {error}")),
            }
        }
    });
    Ok(())
}

/// A fresh connection for events.
pub(crate) async fn connect_events() -> io::Result<Descriptor> {
    let connection = VsockStream::connect(VsockAddr::new(HOST_CID, EVENT_PORT)).await?;
    Descriptor::new(connection.into())
}

/// A fresh connection for questions about names.
pub(crate) async fn connect_names() -> io::Result<VsockStream> {
    VsockStream::connect(VsockAddr::new(HOST_CID, NAME_PORT)).await
}

fn bind(port: u32) -> io::Result<VsockListener> {
    VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, port))
}
