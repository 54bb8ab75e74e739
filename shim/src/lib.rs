//! Bulkhead behind other people's front ends: containerd's shim v2 and runc's command line, two programs of this
//! package, and what they have in common.
//!
//! A [`Bundle`] is what both are handed. A [`Pod`] is a sandbox with the containers of one pod in it, or a single
//! container. [`guest_spec`] decides, field by field, what of a bundle's configuration goes into the guest, what the host
//! does for it, and what is refused.

#![forbid(unsafe_code)]

mod bundle;
mod guest_spec;
mod membership;
mod pod;
mod size;

pub use bundle::{Bundle, BundleError};
pub use guest_spec::Refusal;
pub use membership::Membership;
pub use pod::{Container, ErrorKind, Host, Pod, PodError, PodId};
