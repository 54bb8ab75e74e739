//! virtio-pmem (virtio 1.3 §5.19): tells the guest of a range of its memory that is a disk.
//!
//! The guest reads it without a request, straight from the memory (DAX). It cannot write there, so that a flush has
//! nothing to do.

use std::io;
use std::ops::Range;

use virtio_queue::DescriptorChain;

use crate::memory::Memory;
use crate::virtio::chain::Buffers;
use crate::virtio::device::{ActivateError, Activation, Standing, VirtioDevice};
use crate::virtio::queue_thread::{QueueThread, RequestHandler, ThreadPlan};

/// virtio 1.3 §5.
const DEVICE_TYPE: u32 = 27;

const T_FLUSH: u32 = 0;

pub struct Pmem {
    range: Range<u64>,
    thread: QueueThread,
}

impl Pmem {
    /// The device of a range of guest-physical addresses, which has to be memory already, and read-only.
    pub fn new(range: Range<u64>, plan: ThreadPlan) -> io::Result<Self> {
        Ok(Self { range, thread: QueueThread::start(plan, Flushes)? })
    }
}

impl VirtioDevice for Pmem {
    fn device_type(&self) -> u32 {
        DEVICE_TYPE
    }

    fn queue_sizes(&self) -> &[u16] {
        &[64]
    }

    fn features(&self) -> u64 {
        0
    }

    /// Start and size, in bytes (virtio 1.3 §5.19.4).
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let Range { start, end } = self.range;
        let config = start.to_le_bytes().into_iter().chain((end - start).to_le_bytes());
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (byte, value) in data.iter_mut().zip(config.skip(from)) {
            *byte = value;
        }
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

struct Flushes;

impl RequestHandler for Flushes {
    /// The request is its type, the response 0 for success (virtio 1.3 §5.19.6).
    fn handle(&mut self, _: u16, chain: DescriptorChain<&Memory>, memory: &Memory) -> u32 {
        let Ok(Buffers { readable, writable }) = Buffers::of(chain, memory) else { return 0 };
        let response: u32 = match readable.copy_out().map(u32::from_le_bytes) {
            Some(T_FLUSH) => 0,
            _ => u32::MAX,
        };
        u32::try_from(writable.copy_in(&response.to_le_bytes())).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ending::Ending;
    use crate::virtio::mock_driver::{F_VERSION_1, MockDriver, MockMachine};

    #[test]
    fn the_driver_learns_the_range_and_may_flush() {
        let machine = MockMachine::new();
        let ending = std::sync::Arc::new(Ending::new().unwrap());
        let plan = ThreadPlan { name: "pmem".to_owned(), confine: || Ok(()), ending };
        let slot = machine.add(Pmem::new(0x1_4000_0000..0x1_4060_0000, plan).unwrap());
        let mut driver = MockDriver::bind(&machine, slot);
        driver.start(F_VERSION_1, &[16]);
        assert_eq!(driver.device_config(0, 8), 0x1_4000_0000);
        assert_eq!(driver.device_config(8, 8), 0x60_0000);
        assert_eq!(driver.device_config(16, 8), 0);
        for (request, expected) in [(0_u32, [0; 4]), (1, [0xff; 4])] {
            driver.write_memory(0x10_0000, &request.to_le_bytes());
            let head = driver.push(0, &[(0x10_0000, 4, false), (0x20_0000, 4, true)]);
            driver.ring(0);
            assert_eq!(driver.wait_used(0), (head, 4));
            assert_eq!(driver.read_memory(0x20_0000, 4), expected);
        }
    }
}
