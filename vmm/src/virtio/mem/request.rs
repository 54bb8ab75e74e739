//! The requests of the device's only queue (virtio 1.3 §5.15.6).

use std::sync::Arc;

use virtio_queue::DescriptorChain;
use vm_memory::GuestAddress;
use vmm_api::MEMORY_BLOCK;

use super::Shared;
use super::blocks::{Refused, State};
use crate::memory::{Memory, give_back};
use crate::virtio::chain::{Buffers, Run};
use crate::virtio::queue_thread::RequestHandler;

/// Kinds of requests.
const PLUG: u16 = 0;
const UNPLUG: u16 = 1;
const UNPLUG_ALL: u16 = 2;
const STATE: u16 = 3;

/// Kinds of responses.
const ACK: u16 = 0;
const NACK: u16 = 1;
const ERROR: u16 = 3;

pub(super) struct Requests {
    shared: Arc<Shared>,
}

/// `struct virtio_mem_req`.
struct Request {
    kind: u16,
    address: u64,
    /// Of blocks.
    count: u16,
}

impl Requests {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The kind of the response, and for a question of states the state.
    fn answer(&self, request: &Request, memory: &Memory) -> Result<u16, Refused> {
        let Request { kind, address, count } = *request;
        match kind {
            PLUG => self.shared.blocks().plug(address, count)?,
            UNPLUG => {
                let were = self.shared.blocks().unplug(address, count)?;
                give_back_blocks(memory, were);
            }
            UNPLUG_ALL => {
                let were = self.shared.blocks().unplug_all();
                give_back_blocks(memory, were);
            }
            STATE => return Ok(state_code(self.shared.blocks().state(address, count)?)),
            _ => return Err(Refused::Invalid),
        }
        Ok(0)
    }
}

impl RequestHandler for Requests {
    fn handle(&mut self, _: u16, chain: DescriptorChain<&Memory>, memory: &Memory) -> u32 {
        let Ok(Buffers { readable, writable }) = Buffers::of(chain, memory) else { return 0 };
        let answer = Request::read(&readable).ok_or(Refused::Invalid);
        let (kind, state) = match answer.and_then(|request| self.answer(&request, memory)) {
            Ok(state) => (ACK, state),
            Err(Refused::TooMuch) => (NACK, 0),
            Err(Refused::Invalid) => (ERROR, 0),
        };
        let written = writable.copy_in(&response(kind, state));
        if kind == ACK && self.shared.blocks().is_as_requested() {
            self.shared.tell_followed();
        }
        u32::try_from(written).unwrap_or(0)
    }
}

impl Request {
    fn read(readable: &Run<'_>) -> Option<Self> {
        let [a, b, _, _, _, _, _, _, address @ .., c, d] = readable.copy_out::<18>()?;
        Some(Self {
            kind: u16::from_le_bytes([a, b]),
            address: u64::from_le_bytes(address),
            count: u16::from_le_bytes([c, d]),
        })
    }
}

/// `struct virtio_mem_resp`: the kind, padding, and the state.
fn response(kind: u16, state: u16) -> [u8; 10] {
    let ([a, b], [c, d]) = (kind.to_le_bytes(), state.to_le_bytes());
    [a, b, 0, 0, 0, 0, 0, 0, c, d]
}

fn state_code(state: State) -> u16 {
    match state {
        State::Plugged => 0,
        State::Unplugged => 1,
        State::Mixed => 2,
    }
}

/// Nobody but this thread plugs them again meanwhile.
fn give_back_blocks(memory: &Memory, addresses: Vec<u64>) {
    let length = u32::try_from(MEMORY_BLOCK).unwrap_or(0);
    addresses.into_iter().for_each(|address| give_back(memory, GuestAddress(address), length));
}
