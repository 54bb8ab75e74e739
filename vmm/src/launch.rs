//! The description of a VM that is launched, or goes on, checked, with its descriptors at hand.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use vmm_api::{Disk, DiskDevice, FdIndex, Identity, Launch, Net, PageRange, Place, RateLimit, Resume};

use crate::arch::boot::BootSource;
use crate::arch::mp_table::MAX_CPUS;
use crate::nets::NetShape;
use crate::virtio::blk::Access;
use crate::virtio::net::{Bypass, Carrier, FarSide, MAX_PAIRS, Tap, TapError, Vhost, VhostError};

#[derive(Debug, thiserror::Error)]
pub enum DescriptionError {
    #[error("no descriptor came along for {0}")]
    NoDescriptor(String),
    #[error("a VM has 1 to {MAX_CPUS} vCPUs, not {0}")]
    Vcpus(u8),
    #[error("a VM of {vcpus} vCPUs cannot have {most} at most")]
    MostVcpus { vcpus: u8, most: u8 },
    #[error("a disk's serial is 1 to 20 printable ASCII characters, not {0:?}")]
    Serial(String),
    #[error("a share's tag is 1 to 36 printable ASCII characters, not {0:?}")]
    Tag(String),
    #[error("two disks have the serial {0:?}")]
    SameSerial(String),
    #[error("disk {0} has no file")]
    NoFile(String),
    #[error(
        "disk {0} can be persistent memory only if it is read-only, from the start, and the only such one"
    )]
    PersistentMemory(String),
    #[error("a network interface's name is 1 to 15 printable ASCII characters, not {0:?}")]
    NetName(String),
    #[error("network interface {name} has 1 to {MAX_PAIRS} queues, not {queues}")]
    NetQueues { name: String, queues: usize },
    #[error("a limit of network interface {0} lets nothing through")]
    NetLimit(String),
    #[error("network interface {name} has {queues} queues, and vhost-net for {vhost} of them")]
    VhostQueues { name: String, queues: usize, vhost: usize },
    #[error("the descriptor of vhost-net for network interface {0} cannot be used")]
    Vhost(String, #[source] VhostError),
    #[error("the descriptor for network interface {0} cannot be used")]
    Tap(String, #[source] TapError),
}

/// Everything a VM is made from.
pub struct Parts {
    pub kvm: OwnedFd,
    pub boot: BootSource,
    pub vcpus: u8,
    pub most_vcpus: u8,
    pub memory: u64,
    pub disks: DiskParts,
    /// What the guest's memory is to be, if the VM may be saved.
    pub memory_file: Option<OwnedFd>,
    pub identity: Option<Identity>,
}

/// The disks a VM has from the start.
pub struct DiskParts {
    pub block: Vec<DiskPart>,
    /// The files of a disk that is persistent memory.
    pub persistent_memory: Option<Vec<OwnedFd>>,
}

pub struct DiskPart {
    pub serial: String,
    /// In the order in which they lie on the disk.
    pub files: Vec<OwnedFd>,
    pub access: Access,
}

impl Parts {
    pub fn new(launch: Launch, descriptors: Vec<OwnedFd>) -> Result<Self, DescriptionError> {
        let mut descriptors = Descriptors::from(descriptors);
        let (vcpus, most) = (launch.vcpus, launch.most_vcpus);
        if vcpus == 0 || vcpus > MAX_CPUS {
            return Err(DescriptionError::Vcpus(vcpus));
        }
        if !(vcpus..=MAX_CPUS).contains(&most) {
            return Err(DescriptionError::MostVcpus { vcpus, most });
        }
        Ok(Self {
            disks: DiskParts::take(launch.disks, &mut descriptors)?,
            kvm: descriptors.take(launch.kvm, "/dev/kvm")?,
            boot: BootSource {
                kernel: descriptors.take(launch.kernel, "the kernel")?.into(),
                initramfs: descriptors.take(launch.initramfs, "the initramfs")?.into(),
                command_line: launch.command_line,
            },
            vcpus,
            most_vcpus: most,
            memory: launch.memory,
            memory_file: launch
                .memory_file
                .map(|file| descriptors.take(file, "the file of guest memory"))
                .transpose()?,
            identity: launch.identity,
        })
    }
}

/// Everything a saved VM goes on from.
pub struct SavedParts {
    pub kvm: OwnedFd,
    pub vcpus: u8,
    pub memory_size: u64,
    pub state: OwnedFd,
    pub memory: OwnedFd,
    pub disks: DiskParts,
    pub listen: Vec<u32>,
    pub ahead: Vec<PageRange>,
    pub log_writes: bool,
    pub identity: Option<Identity>,
}

impl SavedParts {
    pub fn new(resume: Resume, descriptors: Vec<OwnedFd>) -> Result<Self, DescriptionError> {
        let mut descriptors = Descriptors::from(descriptors);
        Ok(Self {
            disks: DiskParts::take(resume.disks, &mut descriptors)?,
            kvm: descriptors.take(resume.kvm, "/dev/kvm")?,
            vcpus: resume.vcpus,
            memory_size: resume.memory_size,
            state: descriptors.take(resume.state, "the saved VM's state")?,
            memory: descriptors.take(resume.memory, "the saved VM's memory")?,
            listen: resume.listen,
            ahead: resume.ahead,
            log_writes: resume.log_writes,
            identity: resume.identity,
        })
    }
}

/// The one descriptor of a request that names a file.
pub fn only_descriptor(
    index: FdIndex,
    descriptors: Vec<OwnedFd>,
    what: &str,
) -> Result<OwnedFd, DescriptionError> {
    Descriptors::from(descriptors).take(index, what)
}

/// The descriptors of a request that names two files.
pub fn two_descriptors(
    [one, other]: [FdIndex; 2],
    descriptors: Vec<OwnedFd>,
    [what, what_other]: [&str; 2],
) -> Result<[OwnedFd; 2], DescriptionError> {
    let mut descriptors = Descriptors::from(descriptors);
    Ok([descriptors.take(one, what)?, descriptors.take(other, what_other)?])
}

impl DiskParts {
    fn take(disks: Vec<Disk>, descriptors: &mut Descriptors) -> Result<Self, DescriptionError> {
        let mut serials = BTreeSet::new();
        if let Some(twice) = disks.iter().find(|disk| !serials.insert(&disk.serial)) {
            return Err(DescriptionError::SameSerial(twice.serial.clone()));
        }
        let (persistent, block): (Vec<Disk>, Vec<Disk>) =
            disks.into_iter().partition(|disk| disk.device == DiskDevice::PersistentMemory);
        let persistent_memory = take_persistent(persistent, descriptors)?;
        let block = block.into_iter().map(|disk| DiskPart::take(disk, descriptors));
        Ok(Self { block: block.collect::<Result<_, _>>()?, persistent_memory })
    }
}

fn take_persistent(
    mut disks: Vec<Disk>,
    descriptors: &mut Descriptors,
) -> Result<Option<Vec<OwnedFd>>, DescriptionError> {
    let Some(disk) = disks.pop() else { return Ok(None) };
    if !disk.read_only || !disks.is_empty() {
        return Err(DescriptionError::PersistentMemory(disk.serial));
    }
    DiskPart::take(disk, descriptors).map(|disk| Some(disk.files))
}

impl DiskPart {
    /// A disk added later, with the descriptors of its own message.
    pub fn new(disk: Disk, descriptors: Vec<OwnedFd>) -> Result<Self, DescriptionError> {
        if disk.device == DiskDevice::PersistentMemory {
            return Err(DescriptionError::PersistentMemory(disk.serial));
        }
        Self::take(disk, &mut descriptors.into())
    }

    fn take(disk: Disk, descriptors: &mut Descriptors) -> Result<Self, DescriptionError> {
        let Disk { serial, files, read_only, device: _ } = disk;
        check_serial(&serial)?;
        if files.is_empty() {
            return Err(DescriptionError::NoFile(serial));
        }
        let files = files.into_iter().map(|file| descriptors.take(file, &format!("disk {serial}")));
        let files = files.collect::<Result<_, _>>()?;
        let access = if read_only { Access::ReadOnly } else { Access::Writable };
        Ok(Self { serial, files, access })
    }
}

/// A network interface with its tap.
pub struct NetPart {
    pub name: String,
    /// Of a device of its own.
    pub shape: NetShape,
    pub far_side: FarSide,
}

impl NetPart {
    /// With the descriptors of its own message.
    pub fn new(net: Net, descriptors: Vec<OwnedFd>) -> Result<Self, DescriptionError> {
        let Net { name, queues, vhost, mac, transmit, receive } = net;
        let mut descriptors = Descriptors::from(descriptors);
        let pairs = check_net(&name, queues.len())?;
        if ![0, queues.len()].contains(&vhost.len()) {
            return Err(DescriptionError::VhostQueues { name, queues: queues.len(), vhost: vhost.len() });
        }
        if ![transmit, receive].into_iter().flatten().all(lets_through) {
            return Err(DescriptionError::NetLimit(name));
        }
        let carriers = queues.into_iter().map(|queue| {
            let queue = descriptors.take(queue, &format!("network interface {name}"))?;
            let tap = Tap::new(queue).map_err(|error| DescriptionError::Tap(name.clone(), error))?;
            Ok(Box::new(tap) as Box<dyn Carrier>)
        });
        let carriers = carriers.collect::<Result<_, _>>()?;
        let bypasses = vhost.into_iter().map(|vhost| {
            let vhost = descriptors.take(vhost, &format!("network interface {name}"))?;
            let vhost = Vhost::new(vhost).map_err(|error| DescriptionError::Vhost(name.clone(), error))?;
            Ok(Box::new(vhost) as Box<dyn Bypass>)
        });
        let bypasses = bypasses.collect::<Result<_, _>>()?;
        let far_side = FarSide { carriers, bypasses, transmit, receive };
        Ok(Self { name, shape: NetShape { pairs, mac }, far_side })
    }
}

/// Says how many pairs of queues it has.
fn check_net(name: &str, queues: usize) -> Result<u8, DescriptionError> {
    if !is_printable(name, 15) {
        return Err(DescriptionError::NetName(name.to_owned()));
    }
    u8::try_from(queues)
        .ok()
        .filter(|queues| (1..=MAX_PAIRS).contains(queues))
        .ok_or_else(|| DescriptionError::NetQueues { name: name.to_owned(), queues })
}

fn lets_through(limit: RateLimit) -> bool {
    [limit.bytes, limit.packets].into_iter().flatten().all(|bucket| bucket.size > 0 && bucket.refill > 0)
}

/// One that a guest can be told of.
pub fn check_place(place: &Place) -> Result<(), DescriptionError> {
    match place {
        Place::Block { serial } => check_serial(serial),
        Place::Net { name, queues } => check_net(name, usize::from(*queues)).map(drop),
        Place::Share { tag } => check_tag(tag),
        Place::PersistentMemory { .. } => Ok(()),
    }
}

/// What a guest can be told.
pub fn check_tag(tag: &str) -> Result<(), DescriptionError> {
    if is_printable(tag, 36) { Ok(()) } else { Err(DescriptionError::Tag(tag.to_owned())) }
}

/// What a guest can be told.
fn check_serial(serial: &str) -> Result<(), DescriptionError> {
    if is_printable(serial, 20) { Ok(()) } else { Err(DescriptionError::Serial(serial.to_owned())) }
}

fn is_printable(name: &str, most: usize) -> bool {
    (1..=most).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
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
    use vmm_api::TokenBucket;

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
            most_vcpus: 1,
            memory: 1 << 28,
            disks: vec![disk("root", 3)],
            memory_file: None,
            identity: None,
        }
    }

    fn disk(serial: &str, file: u8) -> Disk {
        Disk { serial: serial.into(), files: vec![FdIndex(file)], read_only: true, device: DiskDevice::Block }
    }

    fn refusal(launch: Launch) -> String {
        Parts::new(launch, descriptors(5)).err().expect("a refusal").to_string()
    }

    #[test]
    fn a_sound_description_is_taken() {
        let parts = Parts::new(launch(), descriptors(4)).unwrap();
        assert_eq!(parts.disks.block.len(), 1);
    }

    #[test]
    fn a_place_has_a_name_a_guest_can_be_told() {
        let place = |tag: &str| check_place(&Place::Share { tag: tag.to_owned() });
        place("shares").unwrap();
        place(&"x".repeat(36)).unwrap();
        for tag in ["", &"x".repeat(37), "a b", "ä"] {
            let refusal = place(tag).unwrap_err().to_string();
            assert_eq!(refusal, format!("a share's tag is 1 to 36 printable ASCII characters, not {tag:?}"));
        }
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
        for most_vcpus in [0, 255] {
            let refused = refusal(Launch { most_vcpus, ..launch() });
            assert!(refused.contains(&format!("cannot have {most_vcpus} at most")), "{refused}");
        }
        let twins = vec![disk("a", 3), disk("a", 4)];
        assert_eq!(refusal(Launch { disks: twins, ..launch() }), "two disks have the serial \"a\"");
        let none = Disk { files: vec![], ..disk("a", 3) };
        assert_eq!(refusal(Launch { disks: vec![none], ..launch() }), "disk a has no file");
        let missing = Disk { files: vec![FdIndex(3), FdIndex(3)], ..disk("a", 3) };
        assert_eq!(
            refusal(Launch { disks: vec![missing], ..launch() }),
            "no descriptor came along for disk a"
        );
        let persistent = |file| Disk { device: DiskDevice::PersistentMemory, ..disk("p", file) };
        for disks in [
            vec![persistent(3), Disk { serial: "q".into(), ..persistent(4) }],
            vec![Disk { read_only: false, ..persistent(3) }],
        ] {
            assert!(refusal(Launch { disks, ..launch() }).contains("only if it is read-only"));
        }
        assert!(matches!(
            DiskPart::new(persistent(0), descriptors(1)),
            Err(DescriptionError::PersistentMemory(_))
        ));
        for serial in ["", "twenty-one-characters", "sp ace", "ümlaut"] {
            let error = DiskPart::new(disk(serial, 0), descriptors(1)).err().unwrap();
            assert!(matches!(error, DescriptionError::Serial(_)));
        }
    }

    #[test]
    fn what_is_wrong_with_a_network_interface_is_named() {
        let net = || Net {
            name: "net0".into(),
            queues: vec![FdIndex(0)],
            vhost: vec![],
            mac: [2, 0, 0, 0, 0, 1],
            transmit: None,
            receive: None,
        };
        let refusal = |net| NetPart::new(net, descriptors(2)).err().unwrap().to_string();
        assert_eq!(refusal(net()), "the descriptor for network interface net0 cannot be used");
        assert_eq!(
            refusal(Net { queues: vec![FdIndex(7)], ..net() }),
            "no descriptor came along for network interface net0"
        );
        for queues in [0, 17, 300] {
            assert_eq!(
                refusal(Net { queues: vec![FdIndex(0); queues], ..net() }),
                format!("network interface net0 has 1 to 16 queues, not {queues}")
            );
        }
        for name in ["", "sixteen-letters-", "sp ace"] {
            assert!(refusal(Net { name: name.into(), ..net() }).contains("name is 1 to 15"));
        }
        assert_eq!(
            refusal(Net { vhost: vec![FdIndex(1); 2], ..net() }),
            "network interface net0 has 1 queues, and vhost-net for 2 of them"
        );
        for bucket in [TokenBucket { size: 0, refill: 1 }, TokenBucket { size: 1, refill: 0 }] {
            let limit = Some(RateLimit { bytes: None, packets: Some(bucket) });
            for limited in [Net { transmit: limit, ..net() }, Net { receive: limit, ..net() }] {
                assert_eq!(refusal(limited), "a limit of network interface net0 lets nothing through");
            }
        }
        for place in [
            Place::Net { name: String::new(), queues: 1 },
            Place::Net { name: "net0".into(), queues: 0 },
            Place::Net { name: "net0".into(), queues: 17 },
        ] {
            assert!(check_place(&place).is_err());
        }
    }
}
