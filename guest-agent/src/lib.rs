//! The guest agent: PID 1 of a sandbox's virtual machine.
//!
//! [`boot`] makes the bare kernel a system; [`service`] answers the supervisor's calls; [`container`] is the
//! bulk of it; [`streams`] and [`events`] are the other two connections of the contract (agent-api). It is a
//! library so that the contract can be driven over other sockets than the vsock ports of [`transport`].

pub mod boot;
pub mod container;
mod descriptor;
mod disks;
pub mod error_chain;
pub mod events;
mod failure;
pub mod helper;
mod identity;
pub mod init;
mod ioctls;
mod line;
pub mod log;
mod network;
pub mod pause;
pub mod power;
mod processors;
mod pump;
pub mod reaper;
pub mod service;
mod shares;
mod signals;
pub mod streams;
pub mod transport;
mod uevent;
