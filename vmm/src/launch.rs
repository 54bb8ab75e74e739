//! The launch description, checked, with its descriptors at hand.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use vmm_api::{Disk, FdIndex, Identity, Launch};

use crate::arch::boot::BootSource;
use crate::arch::mp_table::MAX_CPUS;
use crate::virtio::blk::Access;

#[derive(Debug, thiserror::Error)]
pub enum DescriptionError {
    #[error("no descriptor came along for {0}")]
    NoDescriptor(String),
    #[error("a VM has 1 to {MAX_CPUS} vCPUs, not {0}")]
    Vcpus(u8),
    #[error("a disk's serial is 1 to 20 printable ASCII characters, not {0:?}")]
    Serial(String),
    #[error("two disks have the serial {0:?}")]
    SameSerial(String),
}

/// Everything a VM is made from.
pub struct Parts {
    pub kvm: OwnedFd,
    pub boot: BootSource,
    pub vcpus: u8,
    pub memory: u64,
    pub disks: Vec<DiskPart>,
    pub identity: Option<Identity>,
}

pub struct DiskPart {
    pub serial: String,
    pub file: OwnedFd,
    pub access: Access,
}

impl Parts {
    pub fn new(launch: Launch, descriptors: Vec<OwnedFd>) -> Result<Self, DescriptionError> {
        let mut descriptors = Descriptors::from(descriptors);
        if launch.vcpus == 0 || launch.vcpus > MAX_CPUS {
            return Err(DescriptionError::Vcpus(launch.vcpus));
        }
        let mut serials = BTreeSet::new();
        if let Some(twice) = launch.disks.iter().find(|disk| !serials.insert(&disk.serial)) {
            return Err(DescriptionError::SameSerial(twice.serial.clone()));
        }
        Ok(Self {
            kvm: descriptors.take(launch.kvm, "/dev/kvm")?,
            boot: BootSource {
                kernel: descriptors.take(launch.kernel, "the kernel")?.into(),
                initramfs: descriptors.take(launch.initramfs, "the initramfs")?.into(),
                command_line: launch.command_line,
            },
            vcpus: launch.vcpus,
            memory: launch.memory,
            disks: launch
                .disks
                .into_iter()
                .map(|disk| DiskPart::take(disk, &mut descriptors))
                .collect::<Result<_, _>>()?,
            identity: launch.identity,
        })
    }
}

impl DiskPart {
    /// A disk added later, with the descriptors of its own message.
    pub fn new(disk: Disk, descriptors: Vec<OwnedFd>) -> Result<Self, DescriptionError> {
        Self::take(disk, &mut descriptors.into())
    }

    fn take(disk: Disk, descriptors: &mut Descriptors) -> Result<Self, DescriptionError> {
        let Disk { serial, file, read_only } = disk;
        if !(1..=20).contains(&serial.len()) || !serial.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(DescriptionError::Serial(serial));
        }
        let file = descriptors.take(file, &format!("disk {serial}"))?;
        let access = if read_only { Access::ReadOnly } else { Access::Writable };
        Ok(Self { serial, file, access })
    }
}

/// The descriptors of one message, each to be taken once.
struct Descriptors(Vec<Option<OwnedFd>>);

impl Descriptors {
    fn take(&mut self, index: FdIndex, what: &str) -> Result<OwnedFd, DescriptionError> {
        self.0
            .get_mut(usize::from(index.0))
            .and_then(Option::take)
            .ok_or_else(|| DescriptionError::NoDescriptor(what.to_owned()))
    }
}

impl From<Vec<OwnedFd>> for Descriptors {
    fn from(descriptors: Vec<OwnedFd>) -> Self {
        Self(descriptors.into_iter().map(Some).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn descriptors(count: usize) -> Vec<OwnedFd> {
        (0..count).map(|_| File::open("/dev/null").unwrap().into()).collect()
    }

    fn launch() -> Launch {
        Launch {
            kvm: FdIndex(0),
            kernel: FdIndex(1),
            initramfs: FdIndex(2),
            command_line: String::new(),
            vcpus: 1,
            memory: 1 << 28,
            disks: vec![disk("root", 3)],
            identity: None,
        }
    }

    fn disk(serial: &str, file: u8) -> Disk {
        Disk { serial: serial.into(), file: FdIndex(file), read_only: true }
    }

    fn refusal(launch: Launch) -> String {
        Parts::new(launch, descriptors(5)).err().expect("a refusal").to_string()
    }

    #[test]
    fn a_sound_description_is_taken() {
        let parts = Parts::new(launch(), descriptors(4)).unwrap();
        assert_eq!(parts.disks.len(), 1);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(
            refusal(Launch { kernel: FdIndex(9), ..launch() }),
            "no descriptor came along for the kernel"
        );
        assert_eq!(
            refusal(Launch { initramfs: FdIndex(1), ..launch() }),
            "no descriptor came along for the initramfs"
        );
        assert_eq!(refusal(Launch { vcpus: 0, ..launch() }), "a VM has 1 to 254 vCPUs, not 0");
        let twins = vec![disk("a", 3), disk("a", 4)];
        assert_eq!(refusal(Launch { disks: twins, ..launch() }), "two disks have the serial \"a\"");
        for serial in ["", "twenty-one-characters", "sp ace", "ümlaut"] {
            let error = DiskPart::new(disk(serial, 0), descriptors(1)).err().unwrap();
            assert!(matches!(error, DescriptionError::Serial(_)));
        }
    }
}
