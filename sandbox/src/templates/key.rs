//! What shapes a template, and the name that follows from it.

use std::fs;
use std::io;

use ring::digest::{Context, SHA256};
use vmm_api::STATE_VERSION;

use crate::installation::{Installation, version_of};
use crate::kernel_arguments::command_line;
use crate::processors;

/// Says which boot of this host it is: with another one, the host's kernel or processor may be others.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A machine as its guest sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) vcpus: u8,
    /// As many as it can come to have.
    pub(crate) most_vcpus: u8,
    /// In bytes.
    pub(crate) memory: u64,
}

impl Shape {
    pub(crate) fn new(vcpus: u8, memory: u64) -> Self {
        Self { vcpus, most_vcpus: processors::most(vcpus), memory }
    }
}

/// The name of the template for this shape: hexadecimal, and the same only where all that goes into a booted guest is.
pub(crate) fn key(installation: &Installation, shape: Shape) -> io::Result<String> {
    let mut digest = Context::new(&SHA256);
    digest.update(&fs::read(BOOT_ID)?);
    digest.update(&STATE_VERSION.to_le_bytes());
    for file in [&installation.vmm, &installation.kernel, &installation.initramfs] {
        digest.update(&version_of(file)?);
    }
    digest.update(&[shape.vcpus, shape.most_vcpus]);
    digest.update(&shape.memory.to_le_bytes());
    digest.update(command_line(shape.vcpus, &installation.kernel_arguments).as_bytes());
    for place in super::places(shape.vcpus) {
        digest.update(&serde_json::to_vec(&place)?);
    }
    let name = digest.finish();
    Ok(name.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_shapes_a_guest_shapes_the_name() {
        let directory = tempfile::tempdir().unwrap();
        for part in ["bulkhead-vmm", "bulkhead-file-server", "vmlinux", "initramfs"] {
            fs::write(directory.path().join(part), part).unwrap();
        }
        let installation = Installation::at(directory.path()).unwrap();
        let shape = Shape { vcpus: 1, most_vcpus: 4, memory: 1 << 28 };
        let first = key(&installation, shape).unwrap();
        assert_eq!(first.len(), 32);
        assert_eq!(key(&installation, shape).unwrap(), first);
        assert_ne!(key(&installation, Shape { vcpus: 2, ..shape }).unwrap(), first);
        assert_ne!(key(&installation, Shape { most_vcpus: 5, ..shape }).unwrap(), first);
        assert_ne!(key(&installation, Shape { memory: 1 << 29, ..shape }).unwrap(), first);
        let with_argument = Installation { kernel_arguments: "debug".to_owned(), ..installation.clone() };
        assert_ne!(key(&with_argument, shape).unwrap(), first);
        fs::write(&installation.initramfs, "another agent").unwrap();
        assert_ne!(key(&installation, shape).unwrap(), first);
    }
}
