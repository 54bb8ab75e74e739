//! What the two sides say to each other.

use serde::{Deserialize, Serialize};

use crate::{Disk, End, FdIndex, Launch, Net, PageRange, Place, Resume, Share};

/// Chosen by the supervisor; the reply carries it back.
pub type RequestId = u64;

/// From the supervisor. Descriptors named by [`FdIndex`](crate::FdIndex) travel with the same packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Starts the VM; comes first and once.
    Launch(Launch),
    /// Lets a saved VM go on; comes first and once.
    Resume(Resume),
    /// Stops the guest for good and writes its state to a file. Only for a VM without disks whose memory is a file; it may
    /// have places of disks.
    Save { state: FdIndex },
    /// Has all of the VM stand, until [`Snapshot`](Self::Snapshot) or [`Release`](Self::Release): its disks may be
    /// copied. Refused of a VM that shares files with the host: what its guest knows of them the server knows too.
    Hold,
    /// Lets a VM that was held run on.
    Release,
    /// Writes the state of a VM that was held to one file and its memory to another, both empty, and lets it run on as
    /// soon as that has begun, or failed. The reply comes when the files are whole.
    Snapshot { state: FdIndex, memory: FdIndex },
    /// Asks once which pages the guest of a VM with [`Resume::log_writes`] has written since it went on.
    Written,
    /// Adds a disk to the running VM; the guest sees it after its agent rescans the PCI bus.
    AddDisk(Disk),
    /// Adds a place to a VM that is to be saved: a device the guest's kernel can know before there is a disk, a tap or a file
    /// server. When the VM goes on, a disk of its kind and serial takes the place; none leaves it empty.
    AddPlace(Place),
    /// Takes a disk away; the agent has removed its PCI device before.
    RemoveDisk { serial: String },
    /// Adds a network interface to the running VM: in its place, if there is one that is empty, else as a device that the guest
    /// sees after its agent rescans the PCI bus.
    AddNet(Net),
    /// Takes a network interface away, as a disk; one in a place leaves that empty.
    RemoveNet { name: String },
    /// Adds a tree of files, as [`AddNet`](Self::AddNet) an interface. It stays for as long as the VM runs.
    AddShare(Share),
    /// Has the guest take so many bytes of memory more than it was launched with, or give back what it has beyond that: in
    /// steps of [`MEMORY_BLOCK`](crate::MEMORY_BLOCK), and [`MEMORY_ROOM`](crate::MEMORY_ROOM) at most. The reply comes when
    /// it has done so, which it may never do, or with the next such request.
    Resize { plugged: u64 },
    /// Asks how much that is by now.
    Plugged,
    /// Has the VM have so many vCPUs, of [`Launch::most_vcpus`]; it keeps those that it has. They wait to be woken: the agent has
    /// the guest's kernel do so.
    AddVcpus { total: u8 },
    /// Opens a vsock stream to a port the guest listens on; the reply brings the stream's descriptor.
    Connect { port: u32 },
    /// Lets the guest open vsock streams to this port; each arrives as [`Event::Incoming`]. Any other
    /// port is refused.
    Listen { port: u32 },
    /// Asks for the last bytes of the serial console.
    Console,
    /// Ends the VM now, whatever the guest is doing.
    Stop,
}

/// From the VMM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    Reply { request: RequestId, result: Result<Reply, Failure> },
    Event(Event),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The VM runs, and the VMM is in its jail. How long each step took, in order.
    Launched {
        stamps: Vec<Stamp>,
        /// How far the clocks of a saved VM's guest are behind, in ns; 0 for one that boots.
        clock_behind: u64,
    },
    /// State and memory are in their files.
    Saved,
    Held,
    Released,
    /// In rising order; of very many, the first.
    Written {
        pages: Vec<PageRange>,
    },
    DiskAdded,
    DiskRemoved,
    NetAdded,
    NetRemoved,
    ShareAdded,
    /// What the guest has taken of memory beside what it was launched with, in bytes.
    Plugged {
        bytes: u64,
    },
    VcpusAdded,
    /// With one descriptor: the supervisor's end of a stream.
    Connected,
    Listening,
    /// The console's last lines, invalid UTF-8 replaced.
    Console {
        tail: String,
    },
    Stopping,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The guest opened a stream to a port that was listened on. With one descriptor.
    Incoming { port: u32 },
    /// The last message: why the VM ended. Nothing of the guest runs any more. The process keeps what it has until the
    /// socket is closed, and exits with [`EndReason::exit_code`](crate::EndReason::exit_code).
    Ended(End),
}

/// Why a request was not carried out, in words for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub message: String,
}

/// A point of the start: what was just finished, and when, in ns of CLOCK_MONOTONIC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    pub step: String,
    pub at: u64,
}
