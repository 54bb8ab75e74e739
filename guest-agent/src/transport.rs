//! The vsock ports of the contract, as this guest binds them.

use std::io;

use agent_api::ports::{EVENT_PORT, HOST_CID, NAME_PORT, RPC_PORT, STREAM_PORT};
use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener, VsockStream};
use ttrpc::asynchronous::transport::Listener;

use crate::descriptor::Descriptor;
use crate::log;
use crate::streams::Streams;

/// Where callers connect.
pub fn rpc_listener() -> io::Result<Listener> {
    Ok(Listener::from(bind(RPC_PORT)?))
}

/// Begins to take in the streams the host opens.
pub fn accept_streams(streams: Streams) -> io::Result<()> {
    let listener = bind(STREAM_PORT)?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((connection, _)) => streams.admit(connection.into()),
                Err(error) => log::warn(format_args!("cannot accept a stream: {error}")),
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
