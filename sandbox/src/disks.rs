//! The disks a sandbox is launched with, and the serials its guest knows them by.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use vmm_api::{Disk, DiskDevice, FdIndex, Place, Reply, Request};

use crate::config::Scratch;
use crate::container::Rootfs;
use crate::guest::GuestError;
use crate::installation::ImageDevice;
use crate::memory::PAGE;
use crate::sandbox::Sandbox;
use crate::scratch::{self, ScratchError};
use crate::vmm::VmmError;

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

/// A disk a running sandbox was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedDisk {
    serial: String,
    number: DeviceNumber,
}

/// By which a kernel knows a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceNumber {
    pub major: u32,
    pub minor: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error(transparent)]
    Vmm(#[from] VmmError),
    #[error(transparent)]
    Guest(#[from] GuestError),
    #[error("the agent does not tell which device of the guest the disk is")]
    Unnumbered,
}

impl AddedDisk {
    /// By which [`Rootfs::Disk`] names it.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// By which the guest's kernel knows it.
    pub fn number(&self) -> DeviceNumber {
        self.number
    }
}

impl Sandbox {
    /// Gives the running guest a disk: regular files or block devices, end to end. Opened read-only, if it is to be.
    pub async fn add_disk(&self, files: Vec<File>, read_only: bool) -> Result<AddedDisk, DiskError> {
        let number = self.disks_added.fetch_add(1, Ordering::Relaxed);
        let serial = format!("disk{number}");
        let mut descriptors = Descriptors::default();
        let files = files.into_iter().map(|file| descriptors.add(file)).collect();
        let disk = Disk { serial: serial.clone(), files, read_only, device: DiskDevice::Block };
        match self.vmm.handle().call(Request::AddDisk(disk), descriptors.passed).await? {
            (Reply::DiskAdded, _) => {}
            _ => return Err(VmmError::WrongReply.into()),
        }
        match self.guest.attach_disk(&serial).await {
            Ok(Some(number)) => Ok(AddedDisk { serial, number }),
            failed => {
                // Whatever the guest made of it, the host is not to hold it for its sake.
                let _ = self.take_disk(serial).await;
                failed?;
                Err(DiskError::Unnumbered)
            }
        }
    }

    /// Takes back a disk that was added; refused while the guest has something mounted from it.
    pub async fn remove_disk(&self, disk: AddedDisk) -> Result<(), DiskError> {
        self.guest.detach_disk(&disk.serial).await?;
        self.take_disk(disk.serial).await
    }

    async fn take_disk(&self, serial: String) -> Result<(), DiskError> {
        match self.vmm.handle().call(Request::RemoveDisk { serial }, Vec::new()).await? {
            (Reply::DiskRemoved, _) => Ok(()),
            _ => Err(VmmError::WrongReply.into()),
        }
    }
}

/// The image's disk, read-only, and the scratch disk after it, as far as there are any. The VM will have so many bytes of `memory`.
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
    let files: Vec<_> = image.into_iter().map(|file| descriptors.add(file)).collect();
    let (mut disks, mut layers) = (Vec::new(), Vec::new());
    if !files.is_empty() {
        disks.push(Disk { serial: IMAGE_SERIAL.to_owned(), files, read_only: true, device });
        layers.push(known_as.to_owned());
    }
    if let Some(scratch) = scratch {
        let files = vec![descriptors.add(scratch::open(scratch)?)];
        let device = DiskDevice::Block;
        disks.push(Disk { serial: SCRATCH_SERIAL.to_owned(), files, read_only: false, device });
    }
    Ok((disks, Rootfs::Layers { layers, scratch: scratch.map(|_| SCRATCH_SERIAL.to_owned()) }))
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
            let Rootfs::Layers { layers, .. } = rootfs else { unreachable!() };
            (disks[0].device, layers[0].clone())
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
