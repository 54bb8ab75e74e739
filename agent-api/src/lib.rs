//! The contract between a sandbox's supervisor on the host and the agent, PID 1 of the guest.
//!
//! `proto/agent.proto` is the contract; [`agent`] and [`agent_ttrpc`] are generated from it and committed
//! (see `tests/generated.rs`). Beside them stands what a .proto cannot say: the vsock ports, the headers
//! of connections, and how events are framed on theirs.

// Denied, not forbidden: the generated modules carry an `allow` of their own (and no unsafe code).
#![deny(unsafe_code)]

pub use generated::{agent, agent_ttrpc};

pub mod event_frame;
pub mod loopback;
pub mod ports;
pub mod stream_header;

mod generated {
    #[allow(warnings, clippy::all, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    pub mod agent;
    #[allow(warnings, clippy::all, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    pub mod agent_ttrpc;
}
