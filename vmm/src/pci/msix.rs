//! MSI-X (PCI 3.0 §6.8.2): a function's interrupt vectors, their table and their pending bits.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use vmm_sys_util::eventfd::EventFd;

use crate::interrupt::{MsiMessage, MsiRouter, MsiVector};
use crate::pci::{Capability, RestoreError};

pub const CAPABILITY_ID: u8 = 0x11;

/// Bytes of a table entry.
pub const ENTRY_SIZE: u64 = 16;

const ENABLE: u8 = 1 << 7;
const FUNCTION_MASK: u8 = 1 << 6;

/// The vectors of one function: none until they are allocated. Raised by its device's thread, programmed by
/// vCPUs.
#[derive(Default)]
pub struct Msix {
    state: Mutex<State>,
}

/// An entry of a saved table; what the capability says is in configuration space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryState {
    table: [u8; 16],
    pending: bool,
}

#[derive(Default)]
struct State {
    enabled: bool,
    all_masked: bool,
    entries: Vec<Entry>,
}

struct Entry {
    message: MsiMessage,
    masked: bool,
    pending: bool,
    /// What the vector was last told to deliver.
    routed: Option<MsiMessage>,
    vector: Box<dyn MsiVector>,
}

impl Msix {
    pub fn allocate(&self, router: &dyn MsiRouter, vectors: u16) -> io::Result<()> {
        let entries = (0..vectors).map(|_| Ok(Entry::new(router.allocate()?))).collect::<io::Result<_>>()?;
        self.state().entries = entries;
        Ok(())
    }

    /// The capability of a function with so many vectors, at least one, whose table and pending bits lie at
    /// these offsets of its region 0.
    pub fn capability(vectors: u16, table: u32, pending: u32) -> Capability {
        let mut body = vectors.saturating_sub(1).to_le_bytes().to_vec();
        body.extend_from_slice(&table.to_le_bytes());
        body.extend_from_slice(&pending.to_le_bytes());
        let mut writable = vec![0; body.len()];
        if let Some(control) = writable.get_mut(1) {
            *control = ENABLE | FUNCTION_MASK;
        }
        Capability { id: CAPABILITY_ID, body, writable }
    }

    /// The guest wrote the capability, whose body is this now.
    pub fn capability_written(&self, body: &[u8]) {
        let control = body.get(1).copied().unwrap_or_default();
        let mut state = self.state();
        state.enabled = control & ENABLE != 0;
        state.all_masked = control & FUNCTION_MASK != 0;
        state.apply_all();
    }

    /// Interrupts, or notes that an interrupt is pending where the vector is masked.
    pub fn raise(&self, vector: u16) {
        let mut state = self.state();
        if let Some(entry) = state.entries.get_mut(usize::from(vector)) {
            entry.pending = true;
        }
        state.apply(usize::from(vector));
    }

    /// What raises the vector by each write to it.
    pub fn event(&self, vector: u16) -> Option<Arc<EventFd>> {
        self.state().entries.get(usize::from(vector))?.vector.event().ok()
    }

    pub fn read_table(&self, offset: u64, data: &mut [u8]) {
        let state = self.state();
        for (at, byte) in (offset..).zip(data) {
            *byte = entry_index(at)
                .and_then(|(index, byte)| state.entries.get(index)?.bytes().get(byte).copied())
                .unwrap_or_default();
        }
    }

    /// Accesses other than of aligned doublewords and quadwords have no effect.
    pub fn write_table(&self, offset: u64, data: &[u8]) {
        if !matches!(data.len(), 4 | 8) || !offset.is_multiple_of(data.len() as u64) {
            return;
        }
        let Some((index, byte)) = entry_index(offset) else { return };
        let mut state = self.state();
        if let Some(entry) = state.entries.get_mut(index) {
            let mut bytes = entry.bytes();
            if let Some(field) = bytes.get_mut(byte..byte + data.len()) {
                field.copy_from_slice(data);
            }
            entry.set(bytes);
        }
        state.apply(index);
    }

    pub fn save(&self) -> Vec<EntryState> {
        let state = self.state();
        state
            .entries
            .iter()
            .map(|entry| EntryState { table: entry.bytes(), pending: entry.pending })
            .collect()
    }

    /// Goes on from the table of a function with as many vectors.
    pub fn restore(&self, entries: &[EntryState]) -> Result<(), RestoreError> {
        let mut state = self.state();
        if entries.len() != state.entries.len() {
            return Err(RestoreError);
        }
        for (entry, saved) in state.entries.iter_mut().zip(entries) {
            entry.set(saved.table);
            entry.pending = saved.pending;
        }
        state.apply_all();
        Ok(())
    }

    /// The pending bits, which only hardware sets.
    pub fn read_pending(&self, offset: u64, data: &mut [u8]) {
        let state = self.state();
        for (at, byte) in (offset..).zip(data) {
            let first = usize::try_from(at).unwrap_or(usize::MAX).saturating_mul(8);
            *byte = state
                .entries
                .iter()
                .skip(first)
                .take(8)
                .enumerate()
                .fold(0, |bits, (bit, entry)| bits | u8::from(entry.pending) << bit);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which entry a byte of the table belongs to, and its place therein.
fn entry_index(offset: u64) -> Option<(usize, usize)> {
    Some((usize::try_from(offset / ENTRY_SIZE).ok()?, usize::try_from(offset % ENTRY_SIZE).ok()?))
}

impl State {
    fn apply_all(&mut self) {
        for index in 0..self.entries.len() {
            self.apply(index);
        }
    }

    /// Makes the vector do what enable bit, masks, message and pending bit say together.
    fn apply(&mut self, index: usize) {
        let open = self.enabled && !self.all_masked;
        let enabled = self.enabled;
        let Some(entry) = self.entries.get_mut(index) else { return };
        if !enabled {
            // Without MSI-X the function interrupts by INTx, and it has none.
            entry.pending = false;
        }
        let route = (open && !entry.masked).then_some(entry.message);
        if entry.routed != route && entry.vector.route(route).is_ok() {
            entry.routed = route;
        }
        if entry.pending && route.is_some() && entry.routed == route {
            // An irqfd's full counter means an interrupt that has yet to be taken: this one joins it.
            let _ = entry.vector.raise();
            entry.pending = false;
        }
    }
}

impl Entry {
    fn new(vector: Box<dyn MsiVector>) -> Self {
        Self { message: MsiMessage::default(), masked: true, pending: false, routed: None, vector }
    }

    fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.message.address.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.message.data.to_le_bytes());
        bytes[12] = u8::from(self.masked);
        bytes
    }

    fn set(&mut self, bytes: [u8; 16]) {
        let (address, rest) = bytes.split_at(8);
        let (data, control) = rest.split_at(4);
        self.message = MsiMessage {
            address: address.try_into().map(u64::from_le_bytes).unwrap_or_default(),
            data: data.try_into().map(u32::from_le_bytes).unwrap_or_default(),
        };
        self.masked = control.first().is_some_and(|bits| bits & 1 != 0);
    }
}
