//! What a sandbox is to be.

use std::fs::File;
use std::path::PathBuf;

use crate::record::Label;

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
    /// The image's layers as EROFS files, lowest first, opened read-only.
    pub layers: Vec<File>,
    /// The disk that takes the container's writes.
    pub scratch: Option<Scratch>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scratch {
    /// Where its blocks are kept: a directory on a file system with room. The file has no name there,
    /// and so is gone with the sandbox, whatever ends it.
    pub directory: PathBuf,
    /// In bytes.
    pub size: u64,
}
