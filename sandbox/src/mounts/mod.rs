//! Mounts as others describe them: what of the host they are of, and how it is to be mounted.

mod disk;
pub(crate) mod options;

pub use disk::DiskMount;

/// A mount as mount(8) and containerd describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsMount {
    /// `overlay`, `bind`, ….
    pub kind: String,
    pub source: String,
    /// Flags and the file system's own options, as of fstab(5).
    pub options: Vec<String>,
}
