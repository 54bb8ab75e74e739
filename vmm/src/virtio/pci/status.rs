//! The one status machine under every device (virtio 1.3 §2.1, §3.1): features freeze at FEATURES_OK, queues
//! at DRIVER_OK, and a write out of turn has no effect.

use std::sync::Arc;

use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::EventFd;

use super::interrupts::Interrupts;
use super::state::{DriverState, QueueState};
use crate::hold::Hold;
use crate::memory::Memory;
use crate::pci::RestoreError;
use crate::virtio::device::{Activation, ActiveQueue, Standing, VirtioDevice, VirtioInterrupt};

pub(super) const ACKNOWLEDGE: u8 = 1;
pub(super) const DRIVER: u8 = 2;
pub(super) const DRIVER_OK: u8 = 4;
pub(super) const FEATURES_OK: u8 = 8;
pub(super) const NEEDS_RESET: u8 = 64;
pub(super) const FAILED: u8 = 128;

pub(super) const F_INDIRECT_DESC: u64 = 1 << 28;
pub(super) const F_EVENT_IDX: u64 = 1 << 29;
pub(super) const F_VERSION_1: u64 = 1 << 32;

/// What the transport offers for every device.
const TRANSPORT_FEATURES: u64 = F_INDIRECT_DESC | F_EVENT_IDX | F_VERSION_1;

pub(super) struct StatusMachine {
    device: Box<dyn VirtioDevice>,
    memory: Memory,
    pub(super) interrupts: Arc<Interrupts>,
    /// By queue.
    doorbells: Vec<Arc<EventFd>>,
    status: u8,
    driver_features: u64,
    queues: Vec<QueueSetup>,
    /// The device holds its queues.
    active: bool,
    /// The function was taken off the bus; a vCPU may yet be on its way here.
    removed: bool,
}

/// What the driver says of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueueSetup {
    most: u16,
    pub(super) size: u16,
    pub(super) enabled: bool,
    pub(super) descriptor_table: u64,
    pub(super) available_ring: u64,
    pub(super) used_ring: u64,
    /// How far a saved VM's device had got in the available and the used ring; both zero otherwise.
    progress: (u16, u16),
}

impl QueueSetup {
    fn new(most: u16) -> Self {
        Self {
            most,
            size: most,
            enabled: false,
            descriptor_table: 0,
            available_ring: 0,
            used_ring: 0,
            progress: (0, 0),
        }
    }

    /// The queue, if its size is a power of two the device allows and its parts are aligned and in memory.
    fn validate(&self, memory: &Memory, event_idx: bool) -> Option<Queue> {
        let mut queue = Queue::new(self.most).ok()?;
        queue.try_set_size(self.size).ok()?;
        queue.try_set_desc_table_address(GuestAddress(self.descriptor_table)).ok()?;
        queue.try_set_avail_ring_address(GuestAddress(self.available_ring)).ok()?;
        queue.try_set_used_ring_address(GuestAddress(self.used_ring)).ok()?;
        queue.set_event_idx(event_idx);
        let (next_avail, next_used) = self.progress;
        queue.set_next_avail(next_avail);
        queue.set_next_used(next_used);
        queue.set_ready(true);
        // The library takes an available ring at zero for a queue that was never set up.
        (self.available_ring != 0 && queue.is_valid(memory)).then_some(queue)
    }
}

impl StatusMachine {
    pub(super) fn new(device: Box<dyn VirtioDevice>, memory: Memory, interrupts: Arc<Interrupts>) -> Self {
        let queues = device.queue_sizes().iter().copied().map(QueueSetup::new).collect();
        Self {
            device,
            memory,
            interrupts,
            doorbells: Vec::new(),
            status: 0,
            driver_features: 0,
            queues,
            active: false,
            removed: false,
        }
    }

    pub(super) fn set_doorbells(&mut self, doorbells: Vec<Arc<EventFd>>) {
        self.doorbells = doorbells;
    }

    pub(super) fn read_config(&self, offset: u64, data: &mut [u8]) {
        self.device.read_config(offset, data);
    }

    pub(super) fn config_generation(&self) -> u8 {
        self.device.config_generation()
    }

    pub(super) fn status(&self) -> u8 {
        self.status | if self.interrupts.is_reset_needed() { NEEDS_RESET } else { 0 }
    }

    pub(super) fn offered_features(&self) -> u64 {
        self.device.features() | TRANSPORT_FEATURES
    }

    pub(super) fn driver_features(&self) -> u64 {
        self.driver_features
    }

    pub(super) fn set_driver_features(&mut self, features: u64) {
        if self.status & (DRIVER | FEATURES_OK) == DRIVER {
            self.driver_features = features;
        }
    }

    pub(super) fn queue_count(&self) -> u16 {
        u16::try_from(self.queues.len()).unwrap_or(u16::MAX)
    }

    pub(super) fn queue(&self, index: u16) -> Option<&QueueSetup> {
        self.queues.get(usize::from(index))
    }

    /// The queue's registers, while the driver may write them.
    pub(super) fn writable_queue(&mut self, index: u16) -> Option<&mut QueueSetup> {
        let in_turn = self.status & (FEATURES_OK | DRIVER_OK | FAILED) == FEATURES_OK;
        self.queues.get_mut(usize::from(index)).filter(|queue| in_turn && !queue.enabled)
    }

    /// Zero resets; anything else may only add bits to the status.
    pub(super) fn write_status(&mut self, value: u8) {
        if value == 0 {
            self.reset();
        } else if self.status & !value == 0 && !self.removed {
            for bit in [ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK, FAILED] {
                if value & !self.status & bit != 0 {
                    self.advance(bit);
                }
            }
        }
    }

    fn advance(&mut self, bit: u8) {
        let before = match bit {
            DRIVER => ACKNOWLEDGE,
            FEATURES_OK => ACKNOWLEDGE | DRIVER,
            DRIVER_OK => ACKNOWLEDGE | DRIVER | FEATURES_OK,
            _ => 0,
        };
        let in_turn = self.status & (before | FAILED) == before;
        if !in_turn || bit == FEATURES_OK && !self.are_features_acceptable() {
            return;
        }
        self.status |= bit;
        if bit == DRIVER_OK {
            self.activate(false);
        }
    }

    fn are_features_acceptable(&self) -> bool {
        self.driver_features & !self.offered_features() == 0 && self.driver_features & F_VERSION_1 != 0
    }

    /// Hands the queues to the device, or asks for a reset where that cannot be.
    fn activate(&mut self, resumed: bool) {
        let activated = self.active_queues().is_some_and(|queues| {
            let activation = Activation {
                memory: self.memory.clone(),
                features: self.driver_features,
                queues,
                interrupt: Arc::clone(&self.interrupts) as Arc<dyn VirtioInterrupt>,
                resumed,
            };
            self.device.activate(activation).is_ok()
        });
        self.active = activated;
        if !activated {
            self.interrupts.needs_reset();
        }
    }

    /// `None` if one that the driver enabled is not valid.
    fn active_queues(&self) -> Option<Vec<Option<ActiveQueue>>> {
        let event_idx = self.driver_features & F_EVENT_IDX != 0;
        self.queues
            .iter()
            .zip(&self.doorbells)
            .map(|(setup, doorbell)| {
                if !setup.enabled {
                    return Some(None);
                }
                let queue = setup.validate(&self.memory, event_idx)?;
                Some(Some(ActiveQueue { queue, doorbell: Arc::clone(doorbell) }))
            })
            .collect()
    }

    /// Has the device stand still, if it holds its queues.
    pub(super) fn save(&mut self) -> (DriverState, Option<Hold>) {
        let standing = if self.active { self.device.hold() } else { None };
        let (progress, hold) = match standing {
            Some(Standing { progress, hold }) => (progress, Some(hold)),
            None => (Vec::new(), None),
        };
        for (setup, progress) in self.queues.iter_mut().zip(progress) {
            setup.progress = progress.unwrap_or(setup.progress);
        }
        let queues = (0u16..).zip(&self.queues).map(|(index, setup)| QueueState {
            size: setup.size,
            enabled: setup.enabled,
            descriptor_table: setup.descriptor_table,
            available_ring: setup.available_ring,
            used_ring: setup.used_ring,
            vector: self.interrupts.queue_vector(index),
            progress: setup.progress,
        });
        let state = DriverState {
            status: self.status(),
            features: self.driver_features,
            config_vector: self.interrupts.config_vector(),
            queues: queues.collect(),
        };
        (state, hold)
    }

    /// Goes on with the driver of a saved VM, whom nothing escapes: the device looks into each queue once more, and calls
    /// for each, for what was rung or raised last may not have arrived.
    pub(super) fn restore(&mut self, state: &DriverState) -> Result<(), RestoreError> {
        if self.status != 0 || state.queues.len() != self.queues.len() {
            return Err(RestoreError);
        }
        self.driver_features = state.features;
        self.interrupts.set_config_vector(state.config_vector);
        for ((index, setup), saved) in (0u16..).zip(&mut self.queues).zip(&state.queues) {
            self.interrupts.set_queue_vector(index, saved.vector);
            *setup = QueueSetup {
                most: setup.most,
                size: saved.size,
                enabled: saved.enabled,
                descriptor_table: saved.descriptor_table,
                available_ring: saved.available_ring,
                used_ring: saved.used_ring,
                progress: saved.progress,
            };
        }
        self.status = state.status & !NEEDS_RESET;
        if state.status & NEEDS_RESET != 0 {
            self.interrupts.needs_reset();
        } else if self.status & DRIVER_OK != 0 {
            if !self.are_features_acceptable() {
                return Err(RestoreError);
            }
            self.activate(true);
            self.wake_both_sides();
        }
        Ok(())
    }

    fn wake_both_sides(&self) {
        for ((index, setup), doorbell) in (0u16..).zip(&self.queues).zip(&self.doorbells) {
            if setup.enabled {
                // A counter that is full has been rung.
                let _ = doorbell.write(1);
                self.interrupts.used(index);
            }
        }
    }

    fn reset(&mut self) {
        if self.active {
            self.device.reset();
            self.active = false;
        }
        self.status = 0;
        self.driver_features = 0;
        for queue in &mut self.queues {
            *queue = QueueSetup::new(queue.most);
        }
        self.interrupts.reset();
    }

    /// Resets for good.
    pub(super) fn remove(&mut self) {
        self.reset();
        self.removed = true;
    }
}
