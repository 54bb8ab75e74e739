//! How a guest asks for a reset: the keyboard controller's pulse of the CPU's reset line, and the reset
//! control register at port 0xcf9. Both end the VM.

use std::sync::Arc;

use vmm_api::EndReason;

use crate::bus::BusDevice;
use crate::ending::Ending;

/// The keyboard controller's command and status port.
pub const KEYBOARD_CONTROLLER: u64 = 0x64;

/// PCI's configuration ports, with the reset control register among them.
pub const CONFIG_PORTS: u64 = 0xcf8;
pub const CONFIG_PORTS_LENGTH: u64 = 8;

/// A keyboard controller that knows nothing but its reset command. Its status reads as idle.
pub struct KeyboardController {
    ending: Arc<Ending>,
}

impl KeyboardController {
    pub fn new(ending: Arc<Ending>) -> Self {
        Self { ending }
    }
}

impl BusDevice for KeyboardController {
    fn read(&self, _offset: u64, _data: &mut [u8]) {}

    fn write(&self, _offset: u64, data: &[u8]) {
        const PULSE_RESET: u8 = 0xfe;
        if data == [PULSE_RESET] {
            self.ending.end(EndReason::Reboot);
        }
    }
}

/// PCI's configuration ports, where a byte written to 0xcf9 is the chip set's instead.
pub struct ResetControl {
    config_ports: Arc<dyn BusDevice>,
    ending: Arc<Ending>,
}

impl ResetControl {
    pub fn new(config_ports: Arc<dyn BusDevice>, ending: Arc<Ending>) -> Self {
        Self { config_ports, ending }
    }
}

impl BusDevice for ResetControl {
    fn read(&self, offset: u64, data: &mut [u8]) {
        self.config_ports.read(offset, data);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        const REGISTER: u64 = 1;
        const RESET_CPU: u8 = 1 << 2;
        match (offset, data) {
            (REGISTER, [value]) => {
                if value & RESET_CPU != 0 {
                    self.ending.end(EndReason::Reboot);
                }
            }
            _ => self.config_ports.write(offset, data),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Recorder(Mutex<Vec<(u64, Vec<u8>)>>);

    impl BusDevice for Recorder {
        fn read(&self, _offset: u64, _data: &mut [u8]) {}
        fn write(&self, offset: u64, data: &[u8]) {
            self.0.lock().unwrap().push((offset, data.to_vec()));
        }
    }

    #[test]
    fn only_the_reset_command_of_the_keyboard_controller_ends_the_vm() {
        let ending = Arc::new(Ending::new().unwrap());
        let controller = KeyboardController::new(Arc::clone(&ending));
        for other in [&[0xaa][..], &[0xff], &[0xfe, 0]] {
            controller.write(0, other);
        }
        assert_eq!(ending.reason(), None);
        controller.write(0, &[0xfe]);
        assert_eq!(ending.reason(), Some(&EndReason::Reboot));
    }

    #[test]
    fn configuration_accesses_pass_by_the_reset_register() {
        let ending = Arc::new(Ending::new().unwrap());
        let pci = Arc::new(Recorder::default());
        let ports = ResetControl::new(pci.clone(), Arc::clone(&ending));
        ports.write(0, &[0xff, 0xff, 0xff, 0xff]);
        ports.write(4, &[0xff]);
        ports.write(1, &[0x02]);
        assert_eq!(ending.reason(), None);
        assert_eq!(*pci.0.lock().unwrap(), [(0, vec![0xff; 4]), (4, vec![0xff])]);
        ports.write(1, &[0x06]);
        assert_eq!(ending.reason(), Some(&EndReason::Reboot));
    }
}
