//! The few devices that are not virtio: a serial port for the kernel's console, the ports that reset the
//! machine, and pvpanic.

pub mod console;
pub mod pvpanic;
pub mod reset;
