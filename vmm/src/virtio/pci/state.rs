//! What a virtio device and its driver have agreed on, saved and taken up again.

use serde::{Deserialize, Serialize};

use crate::pci::msix::EntryState;

/// Of a device whose driver is another VM's from here on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VirtioState {
    pub(super) device_type: u16,
    pub(super) selectors: SelectorsState,
    pub(super) driver: DriverState,
    pub(super) msix: Vec<EntryState>,
}

/// virtio 1.3 §4.1.4.3: `device_feature_select`, `driver_feature_select`, `queue_select`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SelectorsState {
    pub(super) device_features: u32,
    pub(super) driver_features: u32,
    pub(super) queue: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DriverState {
    pub(super) status: u8,
    pub(super) features: u64,
    pub(super) config_vector: u16,
    pub(super) queues: Vec<QueueState>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct QueueState {
    pub(super) size: u16,
    pub(super) enabled: bool,
    pub(super) descriptor_table: u64,
    pub(super) available_ring: u64,
    pub(super) used_ring: u64,
    pub(super) vector: u16,
    /// How far the device has got in the available and the used ring.
    pub(super) progress: (u16, u16),
}
