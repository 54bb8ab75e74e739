//! A virtqueue whose used buffers the driver sees in batches: those of one frame all at once (virtio 1.3 §5.1.6.4.1), and
//! those of many with one interrupt.
//!
//! `Queue` of the virtio-queue crate shows each used buffer as it is added, so the used ring is written here.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use virtio_queue::{DescriptorChain, Error, Queue, QueueOwnedT, QueueT};
use vm_memory::{Address, Bytes, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use super::bypass::BypassedRing;
use crate::memory::Memory;
use crate::virtio::device::{ActiveQueue, VirtioInterrupt};

/// VIRTQ_AVAIL_F_NO_INTERRUPT (virtio 1.3 §2.7.7).
const NO_INTERRUPT: u16 = 1;

/// Both rings begin with flags and an index, of 16 bits each (virtio 1.3 §2.7.6, §2.7.8).
const INDEX: u64 = 2;
const ENTRIES: u64 = 4;
const USED_ENTRY: u64 = 8;
const AVAILABLE_ENTRY: u64 = 2;

pub(super) struct Ring {
    pub(super) index: u16,
    queue: Queue,
    doorbell: Arc<EventFd>,
    memory: Memory,
    /// Used buffers the driver does not see yet.
    hidden: u16,
    /// Used buffers the driver was not called for.
    unsignalled: u16,
}

impl Ring {
    pub(super) fn new(index: u16, active: ActiveQueue, memory: Memory) -> Self {
        let ActiveQueue { queue, doorbell } = active;
        Self { index, queue, doorbell, memory, hidden: 0, unsignalled: 0 }
    }

    pub(super) fn doorbell(&self) -> RawFd {
        self.doorbell.as_raw_fd()
    }

    pub(super) fn size(&self) -> u16 {
        self.queue.size()
    }

    /// How far the device has got in the available and the used ring, but for `ahead` chains it has only looked at.
    pub(super) fn progress(&self, ahead: u16) -> (u16, u16) {
        (self.queue.next_avail().wrapping_sub(ahead), self.queue.next_used())
    }

    /// Whether the driver has ever made buffers available, as far as can be seen.
    pub(super) fn is_in_use(&self) -> bool {
        self.queue.avail_idx(&self.memory, Ordering::Acquire).is_ok_and(|index| index.0 != 0)
    }

    pub(super) fn next_chain(&mut self) -> Result<Option<DescriptorChain<&Memory>>, Error> {
        Ok(self.queue.iter(&self.memory)?.next())
    }

    /// The chain that came last is to come again.
    pub(super) fn put_back(&mut self) {
        self.queue.go_to_previous_position();
    }

    /// The last `count` chains are to come again.
    pub(super) fn rewind(&mut self, count: u16) {
        self.queue.set_next_avail(self.queue.next_avail().wrapping_sub(count));
    }

    /// For somebody else to serve it from here on; `go_on_from` is the way back.
    pub(super) fn bypassed(&self, interrupt: &dyn VirtioInterrupt) -> BypassedRing {
        BypassedRing {
            size: self.queue.size(),
            next: self.queue.next_avail(),
            descriptors: GuestAddress(self.queue.desc_table()),
            available: GuestAddress(self.queue.avail_ring()),
            used: GuestAddress(self.queue.used_ring()),
            doorbell: self.doorbell(),
            call: interrupt.event(self.index),
        }
    }

    /// All chains before `next` are used.
    pub(super) fn go_on_from(&mut self, next: u16) {
        self.queue.set_next_avail(next);
        self.queue.set_next_used(next);
    }

    /// The driver need not ring for now.
    pub(super) fn quiet(&mut self) -> Result<(), Error> {
        self.queue.disable_notification(&self.memory)
    }

    /// From now on the driver rings for a new chain; tells whether there is one already.
    pub(super) fn await_doorbell(&mut self) -> Result<bool, Error> {
        self.queue.enable_notification(&self.memory)
    }

    /// Gives a chain back with its first `written` bytes filled. The driver sees it after `publish`.
    pub(super) fn add_used(&mut self, head: u16, written: usize) -> Result<(), Error> {
        if head >= self.queue.size() {
            return Err(Error::InvalidDescriptorIndex);
        }
        let entry = self.queue.next_used().wrapping_add(self.hidden) % self.queue.size();
        let written = u32::try_from(written).unwrap_or(u32::MAX);
        let at = place(self.queue.used_ring(), ENTRIES + USED_ENTRY * u64::from(entry))?;
        let used = [u32::from(head).to_le(), written.to_le()];
        self.memory.write_obj(used, at).map_err(Error::GuestMemory)?;
        self.hidden = self.hidden.wrapping_add(1);
        Ok(())
    }

    pub(super) fn publish(&mut self) -> Result<(), Error> {
        if self.hidden == 0 {
            return Ok(());
        }
        let next = self.queue.next_used().wrapping_add(self.hidden);
        self.queue.set_next_used(next);
        self.unsignalled = self.unsignalled.wrapping_add(self.hidden);
        self.hidden = 0;
        let at = place(self.queue.used_ring(), INDEX)?;
        self.memory.store(next.to_le(), at, Ordering::Release).map_err(Error::GuestMemory)
    }

    /// Calls the driver for what was published since it was called last, if it wants to be.
    pub(super) fn signal(&mut self, interrupt: &dyn VirtioInterrupt) -> Result<(), Error> {
        let fresh = std::mem::take(&mut self.unsignalled);
        if fresh > 0 && self.is_call_wanted(fresh)? {
            interrupt.used(self.index);
        }
        Ok(())
    }

    /// virtio 1.3 §2.7.7.2.
    fn is_call_wanted(&self, fresh: u16) -> Result<bool, Error> {
        // What was published is seen before it is read what the driver wants.
        fence(Ordering::SeqCst);
        let available = self.queue.avail_ring();
        if self.queue.event_idx_enabled() {
            let behind_entries = ENTRIES + AVAILABLE_ENTRY * u64::from(self.queue.size());
            let used_event = self.load(place(available, behind_entries)?)?;
            let since = self.queue.next_used().wrapping_sub(used_event).wrapping_sub(1);
            Ok(since < fresh)
        } else {
            Ok(self.load(GuestAddress(available))? & NO_INTERRUPT == 0)
        }
    }

    fn load(&self, at: GuestAddress) -> Result<u16, Error> {
        self.memory.load(at, Ordering::Relaxed).map(u16::from_le).map_err(Error::GuestMemory)
    }
}

fn place(ring: u64, offset: u64) -> Result<GuestAddress, Error> {
    GuestAddress(ring).checked_add(offset).ok_or(Error::AddressOverflow)
}
