//! Doorbells are KVM's ioeventfds.

use std::io;

use kvm_ioctls::{IoEventAddress, NoDatamatch, VmFd};
use vmm_sys_util::eventfd::EventFd;

use crate::interrupt::Doorbells;

impl Doorbells for VmFd {
    fn attach(&self, address: u64, event: &EventFd) -> io::Result<()> {
        Ok(self.register_ioevent(event, &IoEventAddress::Mmio(address), NoDatamatch)?)
    }

    fn detach(&self, address: u64, event: &EventFd) -> io::Result<()> {
        Ok(self.unregister_ioevent(event, &IoEventAddress::Mmio(address), NoDatamatch)?)
    }
}
