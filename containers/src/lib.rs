//! Containers that outlive the command that made them.
//!
//! [`Containers`] is the directory of all of them: it makes, finds, renames and removes. Each [`Container`]
//! has a directory of its own with its [`Config`], which says all that a start takes, its [`Status`], its
//! [`log`] and its disk. There is no daemon: while a container runs, one small process keeps it, which
//! [`supervise`] is the whole of. It holds the lock on the container's directory and the sandbox, and serves
//! whoever connects: a [`Supervisor`] is what other processes see of it. This crate knows sandboxes, and
//! neither images nor the command line.

#![deny(unsafe_code)]

mod config;
mod container;
mod containers;
mod disk;
mod enter;
pub mod error_chain;
pub mod events;
pub mod exit_code;
mod health;
pub mod id;
mod inherited;
pub mod log;
mod name;
mod origin;
mod protocol;
mod record;
mod restart;
mod snapshots;
mod start;
mod status;
mod supervise;
mod supervisor;
pub mod watch;
mod wires;

pub use config::{Config, DeviceLimit, FileInEtc, ImageOf, Limits, OpenStdin, StopTimeout};
pub use container::Container;
pub use containers::{Claimed, Containers, ContainersError};
pub use enter::{EnterError, Entered};
pub use health::{HealthCheck, HealthState, HealthStatus, Probe};
pub use jiff::Timestamp;
pub use origin::Origin;
pub use protocol::{Ended, Failure, Size, Wiring};
pub use restart::{RestartPolicy, RestartPolicyError};
pub use snapshots::{About, Making, Snapshot, Snapshots, SnapshotsError};
pub use start::{StartError, Started};
pub use status::{State, Status};
pub use supervise::{Host, OpenImage, SuperviseError, supervise};
pub use supervisor::{Attachment, Supervisor, SupervisorError};
