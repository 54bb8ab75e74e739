//! virtio-balloon (virtio 1.3 §5.5), for free page reporting alone: what the guest frees is the host's again.
//!
//! The balloon itself stays empty: the device asks for no page, and takes none that is offered.

#[cfg(test)]
mod tests;

use std::io;

use virtio_queue::DescriptorChain;

use crate::memory::{Memory, give_back};
use crate::virtio::device::{ActivateError, Activation, Standing, VirtioDevice};
use crate::virtio::queue_thread::{QueueThread, RequestHandler, ThreadPlan};

/// virtio 1.3 §5.
const DEVICE_TYPE: u32 = 5;

/// VIRTIO_BALLOON_F_PAGE_REPORTING.
const F_PAGE_REPORTING: u64 = 1 << 5;

/// virtio 1.3 §5.5.2: inflateq, deflateq and, for neither statsq nor free_page_vq is offered, reporting_vq.
const QUEUE_SIZES: [u16; 3] = [16, 16, 32];
const REPORTING: u16 = 2;

/// The most ranges of a report that are looked at. Linux sends as many, and asks for a queue that has room for them
/// (PAGE_REPORTING_CAPACITY).
const MOST: usize = 32;

pub struct Balloon {
    thread: QueueThread,
}

impl Balloon {
    pub fn new(plan: ThreadPlan) -> io::Result<Self> {
        Ok(Self { thread: QueueThread::start(plan, Reports)? })
    }
}

impl VirtioDevice for Balloon {
    fn device_type(&self) -> u32 {
        DEVICE_TYPE
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        F_PAGE_REPORTING
    }

    /// `num_pages` and `actual` (virtio 1.3 §5.5.4): none are asked for.
    fn read_config(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        self.thread.activate(activation)
    }

    fn reset(&mut self) {
        self.thread.release();
    }

    fn hold(&mut self) -> Option<Standing> {
        self.thread.hold()
    }
}

struct Reports;

impl RequestHandler for Reports {
    /// A report's buffers are the free pages themselves (virtio 1.3 §5.5.6.7): the driver takes none of them into use
    /// before it has the report back.
    fn handle(&mut self, queue: u16, chain: DescriptorChain<&Memory>, memory: &Memory) -> u32 {
        if queue == REPORTING {
            for range in chain.take(MOST).filter(|range| range.is_write_only()) {
                give_back(memory, range.addr(), range.len());
            }
        }
        // Nothing is written to the pages.
        0
    }
}
