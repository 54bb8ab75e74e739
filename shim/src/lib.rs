//! Bulkhead behind other people's front ends: containerd's shim v2 and runc's command line, two programs of this
//! package, and what they have in common.
//!
//! A [`Bundle`] is what both are handed. A [`Pod`] is a sandbox with the containers of one pod in it, or a single
//! container. [`guest_spec`] decides, field by field, what of a bundle's configuration goes into the guest, what the host
//! does for it, and what is refused.

#![forbid(unsafe_code)]

mod bundle;
mod cgroup_path;
mod container_id;
mod error_chain;
mod guest_spec;
mod hooks;
mod membership;
mod network_rates;
mod pod;
mod signal;
mod size;

pub use bundle::{Bundle, BundleError};
pub use cgroup_path::{CGROUP_MOUNT, cgroup_path};
pub use container_id::{IdError, check_id};
pub use error_chain::describe;
pub use guest_spec::{Refusal, joined_pid};
pub use hooks::{HookError, Moment, check_hooks, run_hooks};
pub use membership::Membership;
pub use pod::{Container, ErrorKind, Host, Pod, PodError, PodId};
pub use signal::{Signal, SignalError};
