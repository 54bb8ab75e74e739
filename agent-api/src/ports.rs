//! The vsock ports of the contract.

/// Guest port of the ttrpc service; any number of connections.
pub const RPC_PORT: u32 = 1024;

/// Guest port of streams: one connection for each stdin, stdout or stderr.
pub const STREAM_PORT: u32 = 1025;

/// Guest port of connections to the guest's own loopback ([`crate::loopback`]).
pub const LOOPBACK_PORT: u32 = 1026;

/// Host port the agent connects to once it serves the others, to tell events.
pub const EVENT_PORT: u32 = 1024;

/// Host port of streams that ask for names: DNS over TCP (RFC 1035 §4.2.2).
pub const NAME_PORT: u32 = 1025;

/// The host's vsock address, as every guest knows it (virtio 1.3 §5.10.4).
pub const HOST_CID: u32 = 2;
