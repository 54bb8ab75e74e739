//! What is before a frame, and how long both may be.

/// Of struct virtio_net_hdr with `num_buffers` (virtio 1.3 §5.1.6), in bytes: before each frame in guest memory, and at the
/// tap as well.
pub(super) const HEADER: usize = 12;

/// Where the header says how many buffers the frame takes.
pub(super) const NUM_BUFFERS: usize = 10;

/// The longest frame with its header: of 64 KiB, behind an Ethernet header with one tag.
pub(super) const MOST: usize = HEADER + 18 + (64 << 10);

/// How many frames one queue moves before another has its turn.
pub(super) const BATCH: usize = 64;

/// How many bytes of frames the driver gets before it is called.
pub(super) const BATCH_BYTES: usize = 256 << 10;
