//! The control queue (virtio 1.3 §5.1.6.5): the driver says how many pairs of queues it uses.

use virtio_queue::Error;

use super::ring::Ring;
use crate::memory::Memory;
use crate::virtio::chain::Buffers;
use crate::virtio::device::VirtioInterrupt;

const CLASS_MQ: u8 = 4;
const VQ_PAIRS_SET: u8 = 0;

const OK: u8 = 0;
const ERROR: u8 = 1;

/// Carries out the commands there are, at most as many as the queue holds; tells whether there may be more. `set_pairs` says
/// whether it did.
pub(super) fn serve(
    ring: &mut Ring,
    memory: &Memory,
    interrupt: &dyn VirtioInterrupt,
    mut set_pairs: impl FnMut(u16) -> bool,
) -> Result<bool, Error> {
    ring.quiet()?;
    let mut more = true;
    for _ in 0..ring.size() {
        let Some(chain) = ring.next_chain()? else {
            more = ring.await_doorbell()?;
            if more {
                continue;
            }
            break;
        };
        let head = chain.head_index();
        let written = Buffers::of(chain, memory).map_or(0, |Buffers { readable, writable }| {
            let is_done = match readable.copy_out() {
                // Who cannot be told does not get what it wants.
                _ if writable.is_empty() => false,
                Some([CLASS_MQ, VQ_PAIRS_SET, low, high]) => set_pairs(u16::from_le_bytes([low, high])),
                _ => false,
            };
            writable.copy_in(&[if is_done { OK } else { ERROR }])
        });
        ring.add_used(head, usize::try_from(written).unwrap_or_default())?;
        ring.publish()?;
    }
    ring.signal(interrupt)?;
    Ok(more)
}
