//! A sandbox on the host: launched, wired, supervised, torn down.
//!
//! [`Sandbox::launch`] starts a VM and its agent; the [`Guest`] behind it makes containers and runs
//! processes, whose streams and exits come back. Another process of the host finds a sandbox by its
//! [`Record`] and gets the same [`Guest`] through [`Attached::open`]. The first thing any front end does is
//! [`StateDir::sweep`]: it cleans up what a crash left. This crate knows the VMM's and the agent's
//! contracts, and neither images nor who calls it.

#![forbid(unsafe_code)]

mod archive;
mod attach;
mod broker;
mod cgroup;
mod config;
mod container;
mod control;
mod copies;
mod diagnostics;
mod disks;
mod ended;
mod events;
mod ext4;
mod guest;
mod guest_text;
pub mod host;
mod identity;
mod installation;
mod kernel_arguments;
mod launch;
pub mod local_socket;
mod memory;
mod mounts;
mod network;
mod process_id;
mod processors;
mod record;
mod resize;
mod sandbox;
mod scratch;
mod seccomp;
mod shares;
mod snapshot;
mod sparse_copy;
mod stats;
mod streams;
mod templates;
mod timeline;
mod vmm;

pub use archive::{Archive, ArchiveError, Change, ChangeKind, PathStat, WriteOptions};
pub use attach::{AttachError, Attached};
pub use cgroup::{CpuQuota, DeviceValue, HostLimits, HostStats, LimitError, SettingError, host_stats};
pub use config::{DEFAULT_SCRATCH_SIZE, NetworkConfig, NetworkRates, SandboxConfig, Scratch};
pub use container::{
    Cause, ContainerConfig, CreateError, ExecConfig, Exit, File, Phase, Rootfs, SharedPids, Stdio, Streams,
    TerminalSize,
};
pub use control::AsyncControl;
pub use copies::{RoomError, TemporaryCopy};
pub use disks::{AddedDisk, DeviceNumber, DiskError};
pub use ended::{Ended, Reason};
pub use events::EventError;
pub use guest::{Guest, GuestError, Process};
pub use installation::{
    IMAGE_DEVICE_VARIABLE, ImageDevice, Installation, InstallationError, KERNEL_ARGUMENTS_VARIABLE,
    LIBDIR_VARIABLE, TEMPLATES_VARIABLE,
};
pub use launch::{LaunchError, LaunchPhase, build_template};
pub use memory::{DEFAULT_MEMORY, GUEST_OVERHEAD, MIN_MEMORY, MemoryError};
pub use mounts::{DiskMount, FsMount};
pub use network::{NamespaceError, NetworkError, NetworkNamespace, PortsError};
pub use process_id::ProcessId;
pub use processors::ProcessorError;
pub use record::{Label, Record, RecordError, State, StateDir};
pub use resize::ResizeError;
pub use sandbox::{Remains, Sandbox};
pub use scratch::{ScratchError, make_disk};
pub use seccomp::{SeccompError, SeccompFilter};
pub use shares::{Access, Cache, ServerError, Share, ShareError, SharedTree, TreeError};
pub use snapshot::{SnapshotError, SnapshotFiles, Snapshotter};
pub use sparse_copy::copy_disk;
pub use stats::{CpuStats, GuestStats, IoStats, MemoryStats, PidStats, ProcessInfo, Processes};
pub use templates::{TemplateError, TemplateInfo, Templates};
pub use timeline::{Stamp, Timeline};
pub use vmm::VmmError;
pub use vmm_api::{ControlSocket, End, EndReason, RateLimit, ReceiveError, SendError, TokenBucket};
