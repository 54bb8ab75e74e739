//! What a sandbox is to be.

use std::fs::File;
use std::path::PathBuf;

use vmm_api::RateLimit;

use crate::cgroup::HostLimits;
use crate::network::NetworkNamespace;
use crate::record::Label;
use crate::snapshot::SnapshotFiles;

/// Size of a container's writable disk unless asked otherwise. It is sparse: only what is written counts.
pub const DEFAULT_SCRATCH_SIZE: u64 = 10 << 30;

/// A sandbox to be launched.
#[derive(Debug)]
pub struct SandboxConfig {
    pub label: Label,
    pub hostname: String,
    pub vcpus: u8,
    /// The container's memory limit in bytes, as `--memory` says it. The VM gets more, for its kernel
    /// and agent (see [`GUEST_OVERHEAD`](crate::GUEST_OVERHEAD)).
    pub memory_limit: Option<u64>,
    /// The image's disk: files which, end to end, are an EROFS file system; opened read-only. Without any, the sandbox has no
    /// such disk: root file systems come by [`share`](crate::Sandbox::share) or [`add_disk`](crate::Sandbox::add_disk).
    pub image: Vec<File>,
    /// The disk that takes the container's writes.
    pub scratch: Option<Scratch>,
    pub limits: HostLimits,
    /// The cgroup of this host, as an absolute path in its hierarchy, below which the sandbox's is made, whether there are
    /// limits or not; `None`: Bulkhead's own, where there are.
    pub cgroup_parent: Option<PathBuf>,
    /// `None`: the VMM lives in the supervisor's network namespace, and the guest has no interface.
    pub network: Option<NetworkConfig>,
    /// Whether files of the host will be shared: a file server runs beside the VMM then.
    pub shares: bool,
    /// What its VM goes on from, rather than being booted: the copy of another sandbox, of the same size, image and disk.
    pub from: Option<SnapshotFiles>,
}

/// The network of a sandbox.
#[derive(Debug)]
pub struct NetworkConfig {
    /// In which the VMM lives, and whose interfaces the guest may be given.
    pub namespace: NetworkNamespace,
    pub rates: NetworkRates,
}

/// How much each of the guest's interfaces may carry; without limits, what the host can.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetworkRates {
    /// From the guest.
    pub egress: Option<RateLimit>,
    /// To the guest.
    pub ingress: Option<RateLimit>,
}

/// A container's writable disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scratch {
    /// Gone with the sandbox, whatever ends it: its file has no name.
    Temporary {
        /// Where its blocks are kept: a directory on a file system with room.
        directory: PathBuf,
        /// In bytes.
        size: u64,
    },
    /// A file that [`make_disk`](crate::make_disk) made, for one sandbox at a time. Whatever ends that, the
    /// next one finds what was written.
    Kept { path: PathBuf },
}
