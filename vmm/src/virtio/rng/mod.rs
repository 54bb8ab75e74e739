//! virtio-rng (virtio 1.3 §5.4): the host's entropy for the guest's kernel.

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};
use virtio_queue::DescriptorChain;

use crate::memory::Memory;
use crate::virtio::chain::Buffers;
use crate::virtio::device::{ActivateError, Activation, Standing, VirtioDevice};
use crate::virtio::queue_thread::{QueueThread, RequestHandler, ThreadPlan};

/// virtio 1.3 §5.
const DEVICE_TYPE: u32 = 4;

/// The most a request gets, in bytes; the driver asks again if it wants more. Linux asks for 64.
const MOST: usize = 256;

pub struct Rng {
    thread: QueueThread,
}

impl Rng {
    pub fn new(plan: ThreadPlan) -> io::Result<Self> {
        Ok(Self { thread: QueueThread::start(plan, Entropy)? })
    }
}

impl VirtioDevice for Rng {
    fn device_type(&self) -> u32 {
        DEVICE_TYPE
    }

    fn queue_sizes(&self) -> &[u16] {
        &[16]
    }

    fn features(&self) -> u64 {
        0
    }

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

struct Entropy;

impl RequestHandler for Entropy {
    fn handle(&mut self, _: u16, chain: DescriptorChain<&Memory>, memory: &Memory) -> u32 {
        let Ok(buffers) = Buffers::of(chain, memory) else { return 0 };
        let mut random = [0; MOST];
        // Up to 256 bytes getrandom(2) neither fails nor gives fewer, once the host's generator is seeded.
        let Ok(length) = getrandom(&mut random, GetRandomFlags::empty()) else { return 0 };
        let written = buffers.writable.copy_in(random.get(..length).unwrap_or_default());
        u32::try_from(written).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ending::Ending;
    use crate::virtio::mock_driver::{F_VERSION_1, MockDriver, MockMachine};

    #[test]
    fn a_request_is_filled_with_entropy_up_to_a_bound() {
        let machine = MockMachine::new();
        let ending = std::sync::Arc::new(Ending::new().unwrap());
        let plan = ThreadPlan { name: "rng".to_owned(), confine: || Ok(()), ending };
        let slot = machine.add(Rng::new(plan).unwrap());
        let mut driver = MockDriver::bind(&machine, slot);
        driver.start(F_VERSION_1, &[16]);
        for (length, expected) in [(64, 64), (1 << 20, 256), (0, 0)] {
            driver.write_memory(0x20_0000, &[0; 512]);
            let head = driver.push(0, &[(0x20_0000, length, true)]);
            driver.ring(0);
            assert_eq!(driver.wait_used(0), (head, expected));
            let filled = driver.read_memory(0x20_0000, 512);
            // Of 64 random bytes or more, all of 32 being zero has a chance of 2^-256.
            assert_eq!(filled[..32].iter().any(|byte| *byte != 0), expected > 0);
            assert!(filled[usize::try_from(expected).unwrap()..].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn a_request_with_nothing_to_write_or_outside_memory_gets_nothing() {
        let machine = MockMachine::new();
        let ending = std::sync::Arc::new(Ending::new().unwrap());
        let plan = ThreadPlan { name: "rng".to_owned(), confine: || Ok(()), ending };
        let slot = machine.add(Rng::new(plan).unwrap());
        let mut driver = MockDriver::bind(&machine, slot);
        driver.start(F_VERSION_1, &[16]);
        for buffer in [(0x20_0000, 64, false), (u64::MAX - 8, 64, true)] {
            let head = driver.push(0, &[buffer]);
            driver.ring(0);
            assert_eq!(driver.wait_used(0), (head, 0));
        }
    }
}
