//! Which blocks of the room the guest has taken, and how many it is to have: what the configuration tells (virtio 1.3
//! §5.15.4), and the rules requests have to keep to (§5.15.6).

use std::ops::Range;

use vmm_api::MEMORY_BLOCK;

/// `struct virtio_mem_config`.
pub(super) const CONFIG_LENGTH: usize = 56;

pub(super) struct Blocks {
    room: Range<u64>,
    /// Of the blocks that are usable, from the room's start on: whether each is plugged.
    plugged: Vec<bool>,
    /// In bytes.
    requested: u64,
    generation: u8,
}

/// Why a request is not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// It makes no sense.
    Invalid,
    /// The guest would have more than it is to have.
    TooMuch,
}

/// Of blocks side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Plugged,
    Unplugged,
    Mixed,
}

impl Blocks {
    pub(super) fn new(room: Range<u64>) -> Self {
        Self { room, plugged: Vec::new(), requested: 0, generation: 0 }
    }

    /// The usable part of the room never shrinks (virtio 1.3 §5.15.6.1), nor may what is requested be more.
    pub(super) fn request(&mut self, bytes: u64, usable: u64) {
        let blocks = usize::try_from(usable.min(self.room.end - self.room.start) / MEMORY_BLOCK);
        let blocks = blocks.unwrap_or(usize::MAX).max(self.plugged.len());
        self.plugged.resize(blocks, false);
        self.requested = (bytes / MEMORY_BLOCK * MEMORY_BLOCK).min(self.usable());
        self.changed();
    }

    pub(super) fn plug(&mut self, address: u64, count: u16) -> Result<(), Refused> {
        let range = self.range(address, count)?;
        if self.state_of(&range) != State::Unplugged {
            return Err(Refused::Invalid);
        }
        if self.plugged().saturating_add(u64::from(count) * MEMORY_BLOCK) > self.requested {
            return Err(Refused::TooMuch);
        }
        self.set(range, true);
        Ok(())
    }

    /// The addresses of the blocks.
    pub(super) fn unplug(&mut self, address: u64, count: u16) -> Result<Vec<u64>, Refused> {
        let range = self.range(address, count)?;
        if self.state_of(&range) != State::Plugged {
            return Err(Refused::Invalid);
        }
        self.set(range.clone(), false);
        Ok(range.map(|block| self.address(block)).collect())
    }

    /// The addresses of what was plugged.
    pub(super) fn unplug_all(&mut self) -> Vec<u64> {
        let were = self.plugged.iter().enumerate().filter(|(_, plugged)| **plugged);
        let were = were.map(|(block, _)| self.address(block)).collect();
        self.set(0..self.plugged.len(), false);
        were
    }

    pub(super) fn state(&self, address: u64, count: u16) -> Result<State, Refused> {
        Ok(self.state_of(&self.range(address, count)?))
    }

    /// In bytes.
    pub(super) fn plugged(&self) -> u64 {
        self.plugged.iter().filter(|plugged| **plugged).count() as u64 * MEMORY_BLOCK
    }

    /// In bytes.
    pub(super) fn requested(&self) -> u64 {
        self.requested
    }

    pub(super) fn is_as_requested(&self) -> bool {
        self.plugged() == self.requested
    }

    /// Another one after each change of the configuration.
    pub(super) fn generation(&self) -> u8 {
        self.generation
    }

    pub(super) fn config(&self) -> [u8; CONFIG_LENGTH] {
        let node_and_padding = 0;
        let Range { start, end } = self.room;
        let fields = [
            MEMORY_BLOCK,
            node_and_padding,
            start,
            end - start,
            self.usable(),
            self.plugged(),
            self.requested,
        ];
        let mut config = [0; CONFIG_LENGTH];
        config
            .iter_mut()
            .zip(fields.into_iter().flat_map(u64::to_le_bytes))
            .for_each(|(to, byte)| *to = byte);
        config
    }

    /// In bytes.
    fn usable(&self) -> u64 {
        self.plugged.len() as u64 * MEMORY_BLOCK
    }

    /// The blocks a request names, if there are such, and at least one.
    fn range(&self, address: u64, count: u16) -> Result<Range<usize>, Refused> {
        let offset = address.checked_sub(self.room.start).ok_or(Refused::Invalid)?;
        if count == 0 || !offset.is_multiple_of(MEMORY_BLOCK) {
            return Err(Refused::Invalid);
        }
        let first = usize::try_from(offset / MEMORY_BLOCK).map_err(|_| Refused::Invalid)?;
        let end = first.checked_add(count.into()).filter(|end| *end <= self.plugged.len());
        Ok(first..end.ok_or(Refused::Invalid)?)
    }

    fn address(&self, block: usize) -> u64 {
        self.room.start.saturating_add((block as u64).saturating_mul(MEMORY_BLOCK))
    }

    fn state_of(&self, range: &Range<usize>) -> State {
        let mut blocks = self.plugged.get(range.clone()).unwrap_or_default().iter();
        match (blocks.clone().any(|plugged| *plugged), blocks.any(|plugged| !*plugged)) {
            (true, true) => State::Mixed,
            (true, false) => State::Plugged,
            (false, _) => State::Unplugged,
        }
    }

    fn set(&mut self, range: Range<usize>, plugged: bool) {
        self.plugged.get_mut(range).unwrap_or_default().fill(plugged);
        self.changed();
    }

    fn changed(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 4 << 30;
    const BLOCK: u64 = MEMORY_BLOCK;

    fn blocks(requested: u64, usable: u64) -> Blocks {
        let mut blocks = Blocks::new(START..START + 64 * BLOCK);
        blocks.request(requested, usable);
        blocks
    }

    fn field(blocks: &Blocks, offset: usize) -> u64 {
        u64::from_le_bytes(blocks.config()[offset..offset + 8].try_into().unwrap())
    }

    #[test]
    fn the_configuration_follows() {
        let mut blocks = blocks(4 * BLOCK + 5, 8 * BLOCK);
        assert_eq!([0, 8, 16, 24].map(|offset| field(&blocks, offset)), [BLOCK, 0, START, 64 * BLOCK]);
        assert_eq!([32, 40, 48].map(|offset| field(&blocks, offset)), [8 * BLOCK, 0, 4 * BLOCK]);
        let before = blocks.generation();
        blocks.plug(START + BLOCK, 3).unwrap();
        assert_ne!(blocks.generation(), before);
        blocks.request(BLOCK, BLOCK);
        assert_eq!([32, 40, 48].map(|offset| field(&blocks, offset)), [8 * BLOCK, 3 * BLOCK, BLOCK]);
        blocks.request(u64::MAX, u64::MAX);
        assert_eq!([32, 40, 48].map(|offset| field(&blocks, offset)), [64 * BLOCK, 3 * BLOCK, 64 * BLOCK]);
    }

    #[test]
    fn no_more_is_plugged_than_was_requested() {
        let mut blocks = blocks(4 * BLOCK, 8 * BLOCK);
        assert_eq!(blocks.plug(START, 5), Err(Refused::TooMuch));
        assert_eq!(blocks.plug(START, 3), Ok(()));
        assert_eq!(blocks.plug(START + 4 * BLOCK, 2), Err(Refused::TooMuch));
        assert!(!blocks.is_as_requested());
        assert_eq!(blocks.plug(START + 7 * BLOCK, 1), Ok(()));
        assert!(blocks.is_as_requested());
        // What was requested once does not make room for more.
        blocks.request(0, 0);
        blocks.unplug(START, 2).unwrap();
        assert_eq!(blocks.plug(START, 1), Err(Refused::TooMuch));
    }

    #[test]
    fn what_names_no_usable_blocks_or_those_of_another_state_is_refused() {
        let mut blocks = blocks(8 * BLOCK, 8 * BLOCK);
        blocks.plug(START + 2 * BLOCK, 2).unwrap();
        for (address, count) in [
            (0, 1),
            (START - BLOCK, 2),
            (START + 4096, 1),
            (START, 0),
            (START, 9),
            (START, u16::MAX),
            (START + 8 * BLOCK, 1),
            (!(BLOCK - 1), u16::MAX),
        ] {
            assert_eq!(blocks.plug(address, count), Err(Refused::Invalid), "{address:x} {count}");
            assert_eq!(blocks.unplug(address, count), Err(Refused::Invalid), "{address:x} {count}");
            assert_eq!(blocks.state(address, count), Err(Refused::Invalid), "{address:x} {count}");
        }
        for (block, count) in [(2, 1), (1, 2), (3, 2)] {
            assert_eq!(blocks.plug(START + block * BLOCK, count), Err(Refused::Invalid));
        }
        for (block, count) in [(0, 1), (1, 2), (3, 2)] {
            assert_eq!(blocks.unplug(START + block * BLOCK, count), Err(Refused::Invalid));
        }
        assert_eq!(blocks.plugged(), 2 * BLOCK);
    }

    #[test]
    fn states_are_told_and_all_can_be_unplugged() {
        let mut blocks = blocks(8 * BLOCK, 8 * BLOCK);
        blocks.plug(START + BLOCK, 2).unwrap();
        let state = |blocks: &Blocks, first, count| blocks.state(START + first * BLOCK, count).unwrap();
        assert_eq!(state(&blocks, 1, 2), State::Plugged);
        assert_eq!(state(&blocks, 3, 5), State::Unplugged);
        assert_eq!(state(&blocks, 0, 8), State::Mixed);
        assert_eq!(blocks.unplug_all(), [START + BLOCK, START + 2 * BLOCK]);
        assert_eq!(state(&blocks, 0, 8), State::Unplugged);
    }
}
