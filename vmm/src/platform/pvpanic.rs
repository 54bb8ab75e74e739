//! pvpanic (QEMU docs/specs/pvpanic.rst): one register through which the guest's kernel says that it
//! panicked, or switches the machine off, for without ACPI it knows no other way.

use std::sync::Arc;

use vmm_api::EndReason;

use crate::ending::Ending;
use crate::pci::{Identity, PciFunction};

const PANICKED: u8 = 1 << 0;
/// The kernel panicked and boots a crash kernel: there is none here.
const CRASH_LOADED: u8 = 1 << 1;
const SHUTDOWN: u8 = 1 << 2;

pub struct Pvpanic {
    ending: Arc<Ending>,
}

impl Pvpanic {
    pub fn new(ending: Arc<Ending>) -> Self {
        Self { ending }
    }
}

impl PciFunction for Pvpanic {
    fn identity(&self) -> Identity {
        Identity {
            vendor: 0x1b36,
            device: 0x0011,
            subsystem_vendor: 0x1af4,
            subsystem: 0x1100,
            revision: 1,
            class: 0x08_80_00,
        }
    }

    fn region_size(&self) -> u64 {
        16
    }

    /// Which events the guest may report.
    fn read(&self, offset: u64, data: &mut [u8]) {
        if let (0, Some(register)) = (offset, data.first_mut()) {
            *register = PANICKED | CRASH_LOADED | SHUTDOWN;
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let (0, Some(event)) = (offset, data.first()) else { return };
        if event & (PANICKED | CRASH_LOADED) != 0 {
            self.ending.end(EndReason::Panic);
        } else if event & SHUTDOWN != 0 {
            self.ending.end(EndReason::PowerOff);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end_after(offset: u64, data: &[u8]) -> Option<EndReason> {
        let ending = Arc::new(Ending::new().unwrap());
        Pvpanic::new(Arc::clone(&ending)).write(offset, data);
        ending.reason().cloned()
    }

    #[test]
    fn each_event_ends_the_vm_for_its_reason() {
        assert_eq!(end_after(0, &[1]), Some(EndReason::Panic));
        assert_eq!(end_after(0, &[2]), Some(EndReason::Panic));
        assert_eq!(end_after(0, &[4]), Some(EndReason::PowerOff));
        assert_eq!(end_after(0, &[4, 0, 0, 0]), Some(EndReason::PowerOff));
        assert_eq!(end_after(0, &[8]), None);
        assert_eq!(end_after(8, &[1]), None);
    }

    #[test]
    fn the_kernel_finds_what_it_may_report() {
        let pvpanic = Pvpanic::new(Arc::new(Ending::new().unwrap()));
        let mut register = [0];
        pvpanic.read(0, &mut register);
        assert_eq!(register, [7]);
    }
}
