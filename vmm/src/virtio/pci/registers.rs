//! The common configuration structure (virtio 1.3 §4.1.4.3): the driver's registers on the status machine.

use super::state::SelectorsState;
use super::status::{QueueSetup, StatusMachine};

/// Up to and with `queue_device`: what follows belongs to features that are not offered.
pub(super) const COMMON_LENGTH: u64 = 0x38;

/// Which words of the feature bits and which queue the other registers show.
#[derive(Default)]
pub(super) struct Selectors(pub(super) SelectorsState);

impl Selectors {
    pub(super) fn read(&self, machine: &StatusMachine, offset: u64, data: &mut [u8]) {
        let registers = self.registers(machine);
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        for (byte, value) in data.iter_mut().zip(registers.iter().skip(start)) {
            *byte = *value;
        }
    }

    /// All registers, one behind the other.
    fn registers(&self, machine: &StatusMachine) -> Vec<u8> {
        let interrupts = &machine.interrupts;
        let queue = machine.queue(self.0.queue);
        let queue_field = |field: fn(&QueueSetup) -> u64| queue.map_or(0, field).to_le_bytes();
        let mut registers = Vec::with_capacity(0x38);
        registers.extend(self.0.device_features.to_le_bytes());
        registers.extend(word_of(machine.offered_features(), self.0.device_features).to_le_bytes());
        registers.extend(self.0.driver_features.to_le_bytes());
        registers.extend(word_of(machine.driver_features(), self.0.driver_features).to_le_bytes());
        registers.extend(interrupts.config_vector().to_le_bytes());
        registers.extend(machine.queue_count().to_le_bytes());
        registers.extend([machine.status(), machine.config_generation()]);
        registers.extend(self.0.queue.to_le_bytes());
        registers.extend(queue.map_or(0, |queue| queue.size).to_le_bytes());
        registers.extend(interrupts.queue_vector(self.0.queue).to_le_bytes());
        registers.extend(queue.map_or(0, |queue| u16::from(queue.enabled)).to_le_bytes());
        // queue_notify_off: doorbells are in the order of the queues.
        registers.extend(queue.map_or(0, |_| self.0.queue).to_le_bytes());
        registers.extend(queue_field(|queue| queue.descriptor_table));
        registers.extend(queue_field(|queue| queue.available_ring));
        registers.extend(queue_field(|queue| queue.used_ring));
        registers
    }

    /// Each register is written as a whole, those of 64 bits in halves; other accesses have no effect.
    pub(super) fn write(&mut self, machine: &mut StatusMachine, offset: u64, data: &[u8]) {
        match *data {
            [value] if offset == 0x14 => machine.write_status(value),
            [a, b] => self.write_short(machine, offset, u16::from_le_bytes([a, b])),
            [a, b, c, d] => self.write_long(machine, offset, u32::from_le_bytes([a, b, c, d])),
            _ => {}
        }
    }

    fn write_short(&mut self, machine: &mut StatusMachine, offset: u64, value: u16) {
        match offset {
            0x10 => machine.interrupts.set_config_vector(value),
            0x16 => self.0.queue = value,
            0x1a => machine.interrupts.set_queue_vector(self.0.queue, value),
            0x18 | 0x1c => {
                if let Some(queue) = machine.writable_queue(self.0.queue) {
                    match offset {
                        0x18 => queue.size = value,
                        _ => queue.enabled = value == 1,
                    }
                }
            }
            _ => {}
        }
    }

    fn write_long(&mut self, machine: &mut StatusMachine, offset: u64, value: u32) {
        match offset {
            0x00 => self.0.device_features = value,
            0x08 => self.0.driver_features = value,
            0x0c => {
                let features = machine.driver_features();
                if let Some(features) = with_word(features, self.0.driver_features, value) {
                    machine.set_driver_features(features);
                }
            }
            0x20..0x38 => {
                let Some(queue) = machine.writable_queue(self.0.queue) else { return };
                let address = match offset & !7 {
                    0x20 => &mut queue.descriptor_table,
                    0x28 => &mut queue.available_ring,
                    _ => &mut queue.used_ring,
                };
                let half = match offset & 7 {
                    0 => 0,
                    4 => 1,
                    _ => return,
                };
                *address = with_word(*address, half, value).unwrap_or(*address);
            }
            _ => {}
        }
    }
}

/// The low word, the high word, and zero beyond.
fn word_of(value: u64, index: u32) -> u32 {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    match index {
        0 => u32::from_le_bytes([a, b, c, d]),
        1 => u32::from_le_bytes([e, f, g, h]),
        _ => 0,
    }
}

/// The value with one of its two words replaced; `None` for a word beyond them.
fn with_word(value: u64, index: u32, word: u32) -> Option<u64> {
    match index {
        0 => Some(value & !0xffff_ffff | u64::from(word)),
        1 => Some(value & 0xffff_ffff | u64::from(word) << 32),
        _ => None,
    }
}
