//! Bulkhead behind other people's front ends: containerd's shim v2 and runc's command line, two programs of this
//! package, and what they have in common.
//!
//! A [`Bundle`] is what both are handed. A [`Pod`] is a sandbox with the containers of one pod in it, or a single
//! container.

#![forbid(unsafe_code)]

mod bundle;
mod cgroup_path;
mod container_id;
mod error_chain;
mod hooks;
mod membership;
mod pod;
mod signal;

pub use bundle::{Bundle, BundleError};
pub use cgroup_path::cgroup_path;
pub use container_id::{IdError, check_id};
pub use error_chain::describe;
pub use hooks::{HookError, Moment, check_hooks, run_hooks};
pub use membership::Membership;
pub use pod::{Container, Host, Pod, PodError, PodId};
pub use signal::{Signal, SignalError};
