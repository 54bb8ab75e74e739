//! The disks a sandbox is launched with, and the serials its guest knows them by.

use std::fs::File;
use std::os::fd::OwnedFd;

use vmm_api::{Disk, FdIndex};

use crate::config::Scratch;
use crate::container::Rootfs;
use crate::scratch::{self, ScratchError};

const SCRATCH_SERIAL: &str = "scratch";

/// Descriptors on their way to the VMM, and the places by which the message names them.
#[derive(Default)]
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
}

/// Layers as `layer0` and on, read-only; the scratch disk after them.
pub(crate) fn describe(
    layers: Vec<File>,
    scratch: Option<&Scratch>,
    descriptors: &mut Descriptors,
) -> Result<(Vec<Disk>, Rootfs), ScratchError> {
    let mut disks = Vec::new();
    let mut rootfs = Rootfs::default();
    for (number, layer) in layers.into_iter().enumerate() {
        let serial = format!("layer{number}");
        rootfs.layers.push(serial.clone());
        disks.push(Disk { serial, file: descriptors.add(layer), read_only: true });
    }
    if let Some(scratch) = scratch {
        let file = descriptors.add(scratch::make(scratch)?);
        rootfs.scratch = Some(SCRATCH_SERIAL.to_owned());
        disks.push(Disk { serial: SCRATCH_SERIAL.to_owned(), file, read_only: false });
    }
    Ok((disks, rootfs))
}
