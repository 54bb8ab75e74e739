//! Where the parts of Bulkhead that a sandbox is started from lie on this host.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Names the directory of the parts, for an installation out of the ordinary.
pub const LIBDIR_VARIABLE: &str = "BULKHEAD_LIBDIR";

/// Adds arguments to the guest kernel's command line: for this host's operator, to look into a boot.
pub const KERNEL_ARGUMENTS_VARIABLE: &str = "BULKHEAD_KERNEL_ARGS";

/// Chooses as what guests see their image's disk: `blk` or `pmem`, to measure both.
pub const IMAGE_DEVICE_VARIABLE: &str = "BULKHEAD_IMAGE_DEVICE";

/// Says whether sandboxes go on from templates: `on` or `off`.
pub const TEMPLATES_VARIABLE: &str = "BULKHEAD_TEMPLATES";

/// What every sandbox is started from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// KVM's device.
    pub kvm: PathBuf,
    /// `bulkhead-vmm`.
    pub vmm: PathBuf,
    /// `bulkhead-file-server`.
    pub file_server: PathBuf,
    /// The guest kernel, an uncompressed ELF file.
    pub kernel: PathBuf,
    /// The guest agent in an initramfs.
    pub initramfs: PathBuf,
    /// What this host's operator adds to the guest kernel's command line.
    pub kernel_arguments: String,
    /// As what guests see their image's disk.
    pub image_device: ImageDevice,
    /// Whether sandboxes go on from templates; they boot otherwise.
    pub templates: bool,
}

/// The devices there are for an image's disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ImageDevice {
    /// Persistent memory, unless the disk is so large that the guest would spend too much of its memory on it.
    #[default]
    Fitting,
    /// virtio-blk.
    Block,
    /// virtio-pmem, mounted with DAX.
    PersistentMemory,
}

#[derive(Debug, thiserror::Error)]
pub enum InstallationError {
    #[error("cannot tell where this program is installed")]
    OwnPath(#[source] io::Error),
    #[error(
        "{} not found in {}: build with `./dev build`, or point {LIBDIR_VARIABLE} at an installation",
        .missing.join(", "),
        .directory.display()
    )]
    Missing { directory: PathBuf, missing: Vec<&'static str> },
}

impl Installation {
    /// In $BULKHEAD_LIBDIR, or else in `../lib/bulkhead` beside the running program.
    pub fn find() -> Result<Self, InstallationError> {
        if let Some(directory) = std::env::var_os(LIBDIR_VARIABLE) {
            return Self::at(Path::new(&directory));
        }
        let program = std::env::current_exe().map_err(InstallationError::OwnPath)?;
        let prefix = program.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
        Self::at(&prefix.join("lib/bulkhead"))
    }

    /// In `directory`, where all of it must be.
    pub fn at(directory: &Path) -> Result<Self, InstallationError> {
        let parts = ["bulkhead-vmm", "bulkhead-file-server", "vmlinux", "initramfs"];
        let missing: Vec<_> = parts.into_iter().filter(|part| !directory.join(part).is_file()).collect();
        if !missing.is_empty() {
            return Err(InstallationError::Missing { directory: directory.to_owned(), missing });
        }
        let [vmm, file_server, kernel, initramfs] = parts.map(|part| directory.join(part));
        let kernel_arguments = std::env::var(KERNEL_ARGUMENTS_VARIABLE).unwrap_or_default();
        let image_device = match std::env::var(IMAGE_DEVICE_VARIABLE).as_deref() {
            Ok("blk") => ImageDevice::Block,
            Ok("pmem") => ImageDevice::PersistentMemory,
            _ => ImageDevice::Fitting,
        };
        let templates = std::env::var_os(TEMPLATES_VARIABLE).is_none_or(|value| value != "off");
        let kvm = PathBuf::from("/dev/kvm");
        Ok(Self { kvm, vmm, file_server, kernel, initramfs, kernel_arguments, image_device, templates })
    }
}

/// Tells a file from what it was before: who replaces it gives it another inode, who writes to it another time.
pub(crate) fn version_of(file: &Path) -> io::Result<Vec<u8>> {
    let meta = fs::metadata(file)?;
    let fields = [meta.dev(), meta.ino(), meta.size()].map(u64::to_le_bytes);
    let times = [meta.mtime(), meta.mtime_nsec()].map(i64::to_le_bytes);
    Ok(fields.into_iter().chain(times).flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("vmlinux"), "").unwrap();
        let message = Installation::at(directory.path()).unwrap_err().to_string();
        assert!(message.contains("bulkhead-vmm, bulkhead-file-server, initramfs not found"), "{message}");
        for part in ["bulkhead-vmm", "bulkhead-file-server", "initramfs"] {
            std::fs::write(directory.path().join(part), "").unwrap();
        }
        assert_eq!(Installation::at(directory.path()).unwrap().vmm, directory.path().join("bulkhead-vmm"));
    }
}
