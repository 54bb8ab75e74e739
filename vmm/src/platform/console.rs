//! The serial console: a 16550 at COM1 whose output ends in a ring. It has no input.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use vm_superio::Trigger;
use vm_superio::serial::{NoEvents, Serial, SerialState};
use vmm_sys_util::eventfd::EventFd;

use crate::bus::BusDevice;

/// The first serial port's place on the port bus.
pub const COM1: u64 = 0x3f8;
pub const COM1_PORTS: u64 = 8;

/// So much of the console's output is kept.
const RING_BYTES: usize = 16 * 1024;

/// The guest's serial port.
pub struct Console {
    serial: Mutex<Serial<Interrupt, NoEvents, Ring>>,
}

impl Console {
    /// `interrupt` becomes readable when the port asserts its line.
    pub fn new(interrupt: EventFd) -> Self {
        Self { serial: Mutex::new(Serial::new(Interrupt(interrupt), Ring::default())) }
    }

    /// The registers; what was printed stays behind.
    pub fn state(&self) -> ConsoleState {
        let state = self.lock().state();
        ConsoleState([
            state.baud_divisor_low,
            state.baud_divisor_high,
            state.interrupt_enable,
            state.interrupt_identification,
            state.line_control,
            state.line_status,
            state.modem_control,
            state.modem_status,
            state.scratch,
        ])
    }

    /// A port with the registers of a saved one.
    pub fn restored(interrupt: EventFd, state: &ConsoleState) -> io::Result<Self> {
        let ConsoleState([low, high, enable, identification, line, status, modem, modem_status, scratch]) =
            *state;
        let state = SerialState {
            baud_divisor_low: low,
            baud_divisor_high: high,
            interrupt_enable: enable,
            interrupt_identification: identification,
            line_control: line,
            line_status: status,
            modem_control: modem,
            modem_status,
            scratch,
            in_buffer: Vec::new(),
        };
        let serial = Serial::from_state(&state, Interrupt(interrupt), NoEvents, Ring::default());
        Ok(Self { serial: Mutex::new(serial.map_err(|error| io::Error::other(error.to_string()))?) })
    }

    /// The last of what the guest printed, from a line's begin, invalid UTF-8 replaced.
    pub fn tail(&self) -> String {
        self.lock().writer().tail()
    }

    fn lock(&self) -> MutexGuard<'_, Serial<Interrupt, NoEvents, Ring>> {
        self.serial.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BusDevice for Console {
    fn read(&self, offset: u64, data: &mut [u8]) {
        if let (Ok(offset), [byte]) = (u8::try_from(offset), data) {
            *byte = self.lock().read(offset);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let (Ok(offset), [byte]) = (u8::try_from(offset), data) {
            // It fails only where loop-back overflows its buffer, and then drops the byte as a UART does.
            let _ = self.lock().write(offset, *byte);
        }
    }
}

/// The registers of the port, in the order of [`SerialState`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleState([u8; 9]);

struct Interrupt(EventFd);

impl Trigger for Interrupt {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        // A full counter means an interrupt that KVM has yet to take: this one is not lost.
        let _ = self.0.write(1);
        Ok(())
    }
}

/// The last [`RING_BYTES`] bytes written to it.
#[derive(Default)]
struct Ring {
    bytes: VecDeque<u8>,
    /// Something was pushed out, so that the first line may be incomplete.
    cut: bool,
}

impl Ring {
    fn tail(&self) -> String {
        let bytes: Vec<u8> = self.bytes.iter().copied().collect();
        let whole_lines = match bytes.iter().position(|byte| *byte == b'\n') {
            Some(end) if self.cut => bytes.get(end + 1..).unwrap_or_default(),
            _ => &bytes,
        };
        String::from_utf8_lossy(whole_lines).replace("\r\n", "\n")
    }
}

impl Write for Ring {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let kept = data.get(data.len().saturating_sub(RING_BYTES)..).unwrap_or_default();
        let excess = (self.bytes.len() + kept.len()).saturating_sub(RING_BYTES);
        self.cut |= excess > 0 || kept.len() < data.len();
        self.bytes.drain(..excess);
        self.bytes.extend(kept);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_flood_keeps_its_end_and_no_more(writes in prop::collection::vec(0usize..40_000, 0..8)) {
            let mut ring = Ring::default();
            let mut all = Vec::new();
            for (index, length) in writes.into_iter().enumerate() {
                let bytes: Vec<u8> = (b'a'..=b'z').cycle().skip(index % 26).take(length).collect();
                ring.write_all(&bytes).unwrap();
                all.extend(bytes);
            }
            let expected = &all[all.len().saturating_sub(RING_BYTES)..];
            let tail = ring.tail();
            prop_assert_eq!(tail.as_bytes(), expected);
        }
    }

    #[test]
    fn what_the_guest_prints_is_the_tail_in_whole_lines() {
        let console = Console::new(EventFd::new(0).unwrap());
        for byte in b"first\r\n\xffsecond\r\n" {
            console.write(0, &[*byte]);
        }
        assert_eq!(console.tail(), "first\n\u{fffd}second\n");

        let line = format!("{}\n", "x".repeat(99));
        for byte in line.repeat(200).bytes() {
            console.write(0, &[byte]);
        }
        let tail = console.tail();
        assert!(tail.len() <= RING_BYTES);
        assert!(tail.lines().all(|whole| whole.len() == 99));
    }

    #[test]
    fn accesses_no_driver_makes_are_harmless() {
        let console = Console::new(EventFd::new(0).unwrap());
        let mut wide = [0; 8];
        console.read(0, &mut wide);
        console.write(7, &[1; 8]);
        console.write(u64::MAX, &[1]);
        assert_eq!(console.tail(), "");
    }
}
