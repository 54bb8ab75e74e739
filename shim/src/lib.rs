//! Bulkhead behind other people's front ends: containerd's shim v2 and runc's command line, two programs of this
//! package, and what they have in common.

#![forbid(unsafe_code)]

mod bundle;
mod membership;

pub use bundle::{Bundle, BundleError};
pub use membership::Membership;
