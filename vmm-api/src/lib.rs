//! The contract between a sandbox's supervisor and `bulkhead-vmm`.
//!
//! The supervisor starts the VMM with one end of a `SOCK_SEQPACKET` socket pair as descriptor
//! [`CONTROL_FD`]. Every message is one packet: JSON, at most [`MAX_MESSAGE`] bytes, with at most
//! [`MAX_DESCRIPTORS`] descriptors beside it. The first request is [`Request::Launch`] or
//! [`Request::Resume`]; whatever the VMM uses (/dev/kvm, kernel, disks) comes as a descriptor, for it opens no
//! path itself. When the socket closes at the supervisor's end, the VMM exits.

#![forbid(unsafe_code)]

mod control;
mod end;
mod launch;
mod socket;
mod state_file;

pub use control::{Event, Failure, Message, Reply, Request, RequestId, Stamp};
pub use end::{End, EndReason, ExitCode};
pub use launch::{
    Disk, DiskDevice, FdIndex, Identity, Launch, MAX_FUSE_MESSAGE, MEMORY_BLOCK, MEMORY_ROOM, Net, PageRange,
    Place, RateLimit, Resume, Share, TokenBucket,
};
pub use socket::{ControlSocket, MAX_DESCRIPTORS, MAX_MESSAGE, ReceiveError, SendError};
pub use state_file::{MAX_STATE_FILE, STATE_VERSION, StateFile, StateFileError};

/// The descriptor at which `bulkhead-vmm` finds its control socket.
pub const CONTROL_FD: i32 = 3;

/// The guest's vsock address (virtio 1.3 §5.10.4: 0, 1 and 2 are reserved, 2 is the host).
pub const GUEST_CID: u64 = 3;
