//! What a VM is made of: the launch description.

use serde::{Deserialize, Serialize};

/// The place of a descriptor among those that came with the same message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdIndex(pub u8);

/// The first message: everything needed to start a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// /dev/kvm, open for reading and writing.
    pub kvm: FdIndex,
    /// An uncompressed ELF kernel with a PVH entry note.
    pub kernel: FdIndex,
    /// An initramfs, placed in guest memory as it is.
    pub initramfs: FdIndex,
    pub command_line: String,
    pub vcpus: u8,
    /// How many it may come to have by [`Request::AddVcpus`](crate::Request::AddVcpus). The kernel is told of all of them, and
    /// the command line has to say that it is to begin with `vcpus` (`maxcpus=`).
    pub most_vcpus: u8,
    /// Guest memory, in bytes; a multiple of the page size.
    pub memory: u64,
    pub disks: Vec<Disk>,
    /// An empty file in memory that becomes the guest's, so that the VM can be saved; guest memory is nobody's file
    /// otherwise.
    pub memory_file: Option<FdIndex>,
    /// Whom the VMM becomes once set up; `None` where the launcher has no privilege to give up.
    pub identity: Option<Identity>,
}

/// The first message, instead: everything needed to let a saved VM go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// /dev/kvm, open for reading and writing.
    pub kvm: FdIndex,
    /// What the saved VM has of both; another one is refused.
    pub vcpus: u8,
    /// In bytes.
    pub memory_size: u64,
    /// What [`Request::Save`](crate::Request::Save) wrote.
    pub state: FdIndex,
    /// The saved VM's [`Launch::memory_file`], or the copy a [`Request::Snapshot`](crate::Request::Snapshot) made. What the
    /// guest writes does not get into it.
    pub memory: FdIndex,
    /// The disks the saved VM had, by their serials, those that take places it had, and others, which its guest sees when
    /// it rescans its bus.
    pub disks: Vec<Disk>,
    /// Ports the guest may open vsock streams to from its first instruction on, as by
    /// [`Request::Listen`](crate::Request::Listen).
    pub listen: Vec<u32>,
    /// Pages the guest will write, mapped before it runs; what does not lie in its memory is passed over.
    pub ahead: Vec<PageRange>,
    /// Whether [`Request::Written`](crate::Request::Written) will be asked.
    pub log_writes: bool,
    /// As of a launch.
    pub identity: Option<Identity>,
}

/// How much a VM's memory may grow beyond what it was launched with, in bytes. With it, and the memory of all but the largest
/// VMs, guest-physical addresses stay within the 36 bits that every processor has that KVM works on.
pub const MEMORY_ROOM: u64 = 32 << 30;

/// By how much it grows, in bytes: what Linux gives and takes as one (`drivers/virtio/virtio_mem.c`).
pub const MEMORY_BLOCK: u64 = 2 << 20;

/// Pages of guest memory, of 4096 bytes, that lie side by side: the number of the first, and how many. On the wire
/// without names, for there are hundreds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u64)", into = "(u64, u64)")]
pub struct PageRange {
    pub first: u64,
    pub count: u64,
}

/// A disk over regular files or block devices. The format is raw, always.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// What the guest reads as the disk's serial (virtio 1.3 §5.2.6, GET_ID): 1 to 20 ASCII bytes,
    /// unique in this VM.
    pub serial: String,
    /// One file, or several that lie on the disk end to end; each a multiple of 512 bytes long.
    pub files: Vec<FdIndex>,
    /// The descriptors must be read-only too when this is set.
    pub read_only: bool,
    pub device: DiskDevice,
}

/// The place of a disk, or another device's far side, that is not there yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// Of a [`DiskDevice::Block`] with this serial. The guest's kernel is to leave it without a driver while it is empty.
    Block { serial: String },
    /// Of the [`DiskDevice::PersistentMemory`], which then is so many bytes long, whatever takes the place: what that has
    /// less reads as zeroes. A multiple of 2 MiB. A driver may have it all the time.
    PersistentMemory { length: u64 },
    /// Of a [`Net`] with this name, with so many pairs of queues. A driver may have it all the time. Every interface of a
    /// saved VM goes on as such a place, whether it had a tap or not.
    Net { name: String, queues: u8 },
    /// Of a [`Share`] with this tag. A driver may have it all the time; requests wait for the server.
    Share { tag: String },
}

/// A network interface of the guest over a tap of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Net {
    /// What requests call it: 1 to 15 ASCII bytes, unique in this VM.
    pub name: String,
    /// The tap's queues, opened with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR (Linux Documentation/networking/tuntap.rst); each
    /// is a pair of virtqueues. More than the device of a place has are refused.
    pub queues: Vec<FdIndex>,
    /// An open /dev/vhost-net for each queue, which then carries the packets; or none, and the VMM does. With limits, the VMM
    /// does in any case.
    pub vhost: Vec<FdIndex>,
    /// What a device of its own tells the guest. One that takes a place keeps the place's, and the agent sets it.
    pub mac: [u8; 6],
    /// Of what the guest sends.
    pub transmit: Option<RateLimit>,
    /// Of what the guest receives.
    pub receive: Option<RateLimit>,
}

/// Token buckets; what has none is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    pub bytes: Option<TokenBucket>,
    pub packets: Option<TokenBucket>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenBucket {
    /// How many tokens it holds, full at first.
    pub size: u64,
    /// How many come in a second.
    pub refill: u64,
}

/// A tree of the host's files, served by another process: virtio-fs (virtio 1.3 §5.11).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// By which the guest mounts it: 1 to 36 ASCII bytes, unique in this VM.
    pub tag: String,
    /// A `SOCK_SEQPACKET` socket to the file server: a packet is a FUSE request, or the answer to one (Linux
    /// include/uapi/linux/fuse.h), of at most [`MAX_FUSE_MESSAGE`] bytes.
    pub server: FdIndex,
}

/// The most a FUSE message has, in bytes: 128 KiB of data, and a page for what is before it.
pub const MAX_FUSE_MESSAGE: usize = (128 << 10) + 4096;

/// As what the guest sees a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskDevice {
    /// virtio-blk: what the guest reads is copied to its memory.
    #[default]
    Block,
    /// virtio-pmem: the files' pages in the host's page cache are memory of the guest. Only for a disk that is
    /// read-only and there from the start, one in a VM, of files that are multiples of 4096 bytes long. It has no
    /// serial: the guest's kernel calls it `pmem0`.
    PersistentMemory,
}

impl From<(u64, u64)> for PageRange {
    fn from((first, count): (u64, u64)) -> Self {
        Self { first, count }
    }
}

impl From<PageRange> for (u64, u64) {
    fn from(PageRange { first, count }: PageRange) -> Self {
        (first, count)
    }
}

/// A user and group for the VMM process alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
}
