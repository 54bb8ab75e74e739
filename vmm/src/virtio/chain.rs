//! A descriptor chain as the two runs of guest memory it names (virtio 1.3 §2.6.4.2): what the device may
//! read, and behind it what it may write. How the driver cut them into descriptors does not matter.

use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestMemoryBackend, VolatileSlice};

use crate::memory::Memory;

/// Guest memory in the order of the descriptors. The guest may change it at any time.
#[derive(Default, Clone)]
pub struct Run<'m> {
    slices: Vec<VolatileSlice<'m>>,
    length: u64,
}

pub struct Buffers<'m> {
    pub readable: Run<'m>,
    pub writable: Run<'m>,
}

#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    #[error("a descriptor names memory outside the guest's")]
    OutOfMemory,
    #[error("a readable descriptor follows a writable one")]
    Order,
}

/// The next chain; where there is none, the driver rings the doorbell for the one that comes.
pub fn next_chain<'a>(
    queue: &mut Queue,
    memory: &'a Memory,
) -> Result<Option<DescriptorChain<&'a Memory>>, virtio_queue::Error> {
    loop {
        if let Some(chain) = queue.iter(memory)?.next() {
            return Ok(Some(chain));
        }
        if !queue.enable_notification(memory)? {
            return Ok(None);
        }
    }
}

impl<'m> Buffers<'m> {
    /// The chain's length is bounded by the queue's size, and so is this.
    pub fn of(chain: DescriptorChain<&'m Memory>, memory: &'m Memory) -> Result<Self, ChainError> {
        let mut buffers = Self { readable: Run::default(), writable: Run::default() };
        for descriptor in chain {
            let run = match descriptor.is_write_only() {
                true => &mut buffers.writable,
                false if buffers.writable.length > 0 => return Err(ChainError::Order),
                false => &mut buffers.readable,
            };
            let length = usize::try_from(descriptor.len()).map_err(|_| ChainError::OutOfMemory)?;
            for slice in GuestMemoryBackend::get_slices(memory, descriptor.addr(), length) {
                run.push(slice.map_err(|_| ChainError::OutOfMemory)?);
            }
        }
        Ok(buffers)
    }
}

impl<'m> Run<'m> {
    fn push(&mut self, slice: VolatileSlice<'m>) {
        if !slice.is_empty() {
            self.length += slice.len() as u64;
            self.slices.push(slice);
        }
    }

    /// In bytes.
    pub fn len(&self) -> u64 {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub fn slices(&self) -> &[VolatileSlice<'m>] {
        &self.slices
    }

    /// The first `length` bytes and the rest; `None` where there are not that many.
    pub fn split_at(&self, length: u64) -> Option<(Self, Self)> {
        if length > self.length {
            return None;
        }
        let (mut head, mut tail) = (Self::default(), Self::default());
        for slice in &self.slices {
            let wanted = usize::try_from(length - head.length).unwrap_or(usize::MAX).min(slice.len());
            let (first, second) = slice.split_at(wanted).ok()?;
            head.push(first);
            tail.push(second);
        }
        Some((head, tail))
    }

    /// Copies the first `N` bytes out; `None` where there are fewer.
    pub fn copy_out<const N: usize>(&self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        let mut rest = bytes.as_mut_slice();
        for slice in &self.slices {
            let copied = slice.read(rest, 0).ok()?;
            rest = rest.split_at_mut_checked(copied)?.1;
            if rest.is_empty() {
                break;
            }
        }
        rest.is_empty().then_some(bytes)
    }

    /// Copies as much of `bytes` in as fits; says how much that was.
    pub fn copy_in(&self, bytes: &[u8]) -> u64 {
        let mut rest = bytes;
        for slice in &self.slices {
            if rest.is_empty() {
                break;
            }
            let Ok(copied) = slice.write(rest, 0) else { break };
            rest = rest.get(copied..).unwrap_or_default();
        }
        (bytes.len() - rest.len()) as u64
    }
}
