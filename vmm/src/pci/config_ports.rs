//! Configuration mechanism #1 (PCI 3.0 §3.2.2.3.2): an address port and a data port.

use std::sync::Arc;

use crate::bus::BusDevice;
use crate::pci::PciBus;

/// Eight ports: the address in the lower four, the data it names in the upper four.
pub(super) struct ConfigPorts {
    bus: Arc<PciBus>,
}

impl ConfigPorts {
    pub(super) fn new(bus: Arc<PciBus>) -> Self {
        Self { bus }
    }

    /// Slot and register of the data at this port, unless the address names another bus or another function
    /// than the first, or enables no access.
    fn target(&self, port: u64, length: usize) -> Option<(usize, u8)> {
        let [register, function, bus, enable] = self.bus.config_address().to_le_bytes();
        let byte = u8::try_from(port.checked_sub(4)?).ok()?;
        let within = usize::from(byte) + length <= 4;
        (within && enable & 0x80 != 0 && bus == 0 && function & 7 == 0)
            .then_some((usize::from(function >> 3), register & 0xfc | byte))
    }
}

impl BusDevice for ConfigPorts {
    fn read(&self, offset: u64, data: &mut [u8]) {
        if offset == 0 && data.len() == 4 {
            data.copy_from_slice(&self.bus.config_address().to_le_bytes());
        } else if let Some((slot, register)) = self.target(offset, data.len()) {
            self.bus.read_config(slot, register, data);
        } else {
            data.fill(0xff);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if offset == 0
            && let Ok(address) = data.try_into()
        {
            self.bus.set_config_address(u32::from_le_bytes(address));
        } else if let Some((slot, register)) = self.target(offset, data.len()) {
            self.bus.write_config(slot, register, data);
        }
    }
}
