//! The disks a sandbox is launched with, and the serials its guest knows them by.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use vmm_api::{Disk, DiskDevice, FdIndex, Place};

use crate::config::Scratch;
use crate::container::Rootfs;
use crate::installation::ImageDevice;
use crate::memory::PAGE;
use crate::scratch::{self, ScratchError};

const IMAGE_SERIAL: &str = "image";
/// Persistent memory has no serial: the guest knows it by its kernel's name.
const PERSISTENT_MEMORY: &str = "pmem0";
const SCRATCH_SERIAL: &str = "scratch";

/// The room a template has for an image that is persistent memory, in bytes: its guest's kernel keeps 64 bytes for each
/// 4 KiB of it, 8 MiB in all.
const IMAGE_PLACE: u64 = 512 << 20;

/// The disks nearly every sandbox has, to which a template gives places ahead.
pub(crate) fn places() -> [Place; 2] {
    [Place::Block { serial: SCRATCH_SERIAL.to_owned() }, Place::PersistentMemory { length: IMAGE_PLACE }]
}

/// Descriptors on their way to the VMM, and the places by which the message names them.
#[derive(Debug, Default)]
pub(crate) struct Descriptors {
    pub(crate) passed: Vec<OwnedFd>,
}

impl Descriptors {
    pub(crate) fn add(&mut self, descriptor: impl Into<OwnedFd>) -> FdIndex {
        // No message has 256 of them: `SendError::TooManyDescriptors` comes first.
        let index = FdIndex(u8::try_from(self.passed.len()).unwrap_or(u8::MAX));
        self.passed.push(descriptor.into());
        index
    }

    /// The same, for a VMM that may not be the last to get them.
    pub(crate) fn duplicate(&self) -> io::Result<Self> {
        let passed = self.passed.iter().map(OwnedFd::try_clone).collect::<io::Result<_>>()?;
        Ok(Self { passed })
    }
}

/// The image's disk, read-only, and the scratch disk after it. The VM will have so many bytes of `memory`.
pub(crate) fn describe(
    image: Vec<File>,
    device: ImageDevice,
    memory: u64,
    scratch: Option<&Scratch>,
    descriptors: &mut Descriptors,
) -> Result<(Vec<Disk>, Rootfs), ScratchError> {
    let is_memory = match device {
        ImageDevice::Fitting => fits(&image, memory),
        ImageDevice::Block => false,
        ImageDevice::PersistentMemory => length(&image).is_ok_and(|bytes| bytes <= IMAGE_PLACE),
    };
    let (device, known_as) = match is_memory {
        true => (DiskDevice::PersistentMemory, PERSISTENT_MEMORY),
        false => (DiskDevice::Block, IMAGE_SERIAL),
    };
    let files = image.into_iter().map(|file| descriptors.add(file)).collect();
    let mut disks = vec![Disk { serial: IMAGE_SERIAL.to_owned(), files, read_only: true, device }];
    let mut rootfs = Rootfs { layers: vec![known_as.to_owned()], scratch: None };
    if let Some(scratch) = scratch {
        let files = vec![descriptors.add(scratch::open(scratch)?)];
        rootfs.scratch = Some(SCRATCH_SERIAL.to_owned());
        let device = DiskDevice::Block;
        disks.push(Disk { serial: SCRATCH_SERIAL.to_owned(), files, read_only: false, device });
    }
    Ok((disks, rootfs))
}

/// The scratch disk's file once more, out of those [`describe`] described.
pub(crate) fn scratch(disks: &[Disk], descriptors: &Descriptors) -> Option<io::Result<OwnedFd>> {
    let disk = disks.iter().find(|disk| disk.serial == SCRATCH_SERIAL)?;
    let index = usize::from(disk.files.first()?.0);
    descriptors.passed.get(index).map(OwnedFd::try_clone)
}

/// Whether the guest can have the files as persistent memory: they have their place in a template, and take at most a
/// sixteenth of its own memory where there is none: its kernel keeps 64 bytes (`struct page`) for each 4 KiB of them.
fn fits(image: &[File], memory: u64) -> bool {
    const STRUCT_PAGE: u64 = 64;
    let most = IMAGE_PLACE.min(memory / 16 / STRUCT_PAGE * PAGE);
    length(image).is_ok_and(|bytes| bytes <= most)
}

fn length(image: &[File]) -> io::Result<u64> {
    image.iter().map(|file| Ok(file.metadata()?.len())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(bytes: u64) -> Vec<File> {
        let file = tempfile::tempfile().unwrap();
        file.set_len(bytes).unwrap();
        vec![file]
    }

    #[test]
    fn an_image_is_persistent_memory_unless_it_is_large_for_the_vm() {
        let known_as = |bytes, device, memory| {
            let (disks, rootfs) =
                describe(image(bytes), device, memory, None, &mut Descriptors::default()).unwrap();
            (disks[0].device, rootfs.layers[0].clone())
        };
        let memory = (DiskDevice::PersistentMemory, PERSISTENT_MEMORY.to_owned());
        let block = (DiskDevice::Block, IMAGE_SERIAL.to_owned());
        assert_eq!(known_as(1 << 28, ImageDevice::Fitting, 64 << 20), memory);
        assert_eq!(known_as((1 << 28) + 1, ImageDevice::Fitting, 64 << 20), block);
        assert_eq!(known_as(IMAGE_PLACE, ImageDevice::Fitting, 256 << 20), memory);
        assert_eq!(known_as(IMAGE_PLACE + 1, ImageDevice::Fitting, 256 << 20), block);
        assert_eq!(known_as(1 << 28, ImageDevice::Block, 256 << 20), block);
        assert_eq!(known_as(IMAGE_PLACE, ImageDevice::PersistentMemory, 64 << 20), memory);
        assert_eq!(known_as(1 << 40, ImageDevice::PersistentMemory, 256 << 20), block);
    }
}
