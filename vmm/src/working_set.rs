//! The pages a start writes: found out once, by KVM's log of what a guest wrote, and from then on mapped before the guest
//! runs. Page by page on demand, each costs an exit, and two where it is read first.

use kvm_bindings::{KVMIO, kvm_pre_fault_memory};
use rustix::io::Errno;
use rustix::mm::{Advice, madvise};
use vm_memory::{Address, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};
use vmm_api::PageRange;
use vmm_sys_util::ioctl::ioctl_with_mut_ref;
use vmm_sys_util::ioctl_iowr_nr;

use crate::memory::{self, Memory, PAGE};
use crate::start::Running;
use crate::vcpu::Vcpu;
use crate::vm::{self, VmError, Writes};

/// What is told of fits into a message, and what is mapped ahead for every start is less than a boot takes.
const MOST_RANGES: usize = 3000;
const MOST_PAGES: u64 = 16 << 20 >> 12;

ioctl_iowr_nr!(KVM_PRE_FAULT_MEMORY, KVMIO, 0xd5, kvm_pre_fault_memory);

#[derive(Debug, thiserror::Error)]
pub enum WrittenError {
    #[error("what this VM's guest writes is not logged")]
    NotLogged,
    #[error("KVM does not tell what the guest has written")]
    Log(#[source] kvm_ioctls::Error),
    #[error("KVM does not end its log of what the guest writes")]
    End(#[from] VmError),
}

/// What the guest has written of its RAM since it went on; ends the log.
pub fn written(running: &mut Running) -> Result<Vec<PageRange>, WrittenError> {
    if running.writes == Writes::NotLogged {
        return Err(WrittenError::NotLogged);
    }
    let memory = &running.machine.memory;
    let mut pages = Pages::default();
    for (slot, region) in (0u32..).zip(memory::ram(memory)) {
        let bytes = usize::try_from(region.len()).unwrap_or(usize::MAX);
        let log = running.vm.get_dirty_log(slot, bytes).map_err(WrittenError::Log)?;
        let first = region.start_addr().raw_value() / PAGE;
        for (number, word) in (0u64..).zip(log) {
            (0..u64::from(u64::BITS))
                .filter(|bit| word >> bit & 1 == 1)
                .for_each(|bit| pages.add(first + number * u64::from(u64::BITS) + bit));
        }
    }
    running.writes = Writes::NotLogged;
    vm::set_memory(&running.vm, memory, running.writes)?;
    Ok(pages.0)
}

/// Maps pages for the guest to write: in this process, and for the guest where its kernel can be told to (Linux 6.11).
/// What cannot be is mapped when the guest gets there.
pub fn map_ahead(memory: &Memory, vcpu: &Vcpu, pages: &[PageRange]) {
    let mut most = MOST_PAGES;
    let mut for_the_guest = true;
    for range in pages.iter().take(MOST_RANGES) {
        most = most.saturating_sub(range.count);
        let Some((start, length)) = bytes(*range).filter(|_| most > 0) else { return };
        if populate(memory, start, length) {
            for_the_guest = for_the_guest && pre_fault(vcpu, start, length).is_ok();
        }
    }
}

/// Address and length.
fn bytes(range: PageRange) -> Option<(u64, u64)> {
    Some((range.first.checked_mul(PAGE)?, range.count.checked_mul(PAGE)?))
}

fn populate(memory: &Memory, start: u64, length: u64) -> bool {
    let Ok(length) = usize::try_from(length) else { return false };
    let Some((region, offset)) = memory.to_region_addr(GuestAddress(start)) else { return false };
    let Ok(slice) = region.get_slice(offset, length) else { return false };
    // SAFETY: the range is part of a mapping that `memory` holds. Nothing of what it holds changes.
    unsafe { madvise(slice.ptr_guard_mut().as_ptr().cast(), slice.len(), Advice::LinuxPopulateWrite) }.is_ok()
}

/// Linux Documentation/virt/kvm/api.rst §4.143: done piece by piece where signals come.
fn pre_fault(vcpu: &Vcpu, address: u64, length: u64) -> Result<(), Errno> {
    let mut range = kvm_pre_fault_memory { gpa: address, size: length, ..Default::default() };
    while range.size > 0 {
        // SAFETY: the descriptor is a vCPU's, and the structure the one this call reads and writes.
        if unsafe { ioctl_with_mut_ref(vcpu.descriptor(), KVM_PRE_FAULT_MEMORY(), &mut range) } < 0 {
            match Errno::from_io_error(&std::io::Error::last_os_error()) {
                Some(Errno::INTR | Errno::AGAIN) => {}
                error => return Err(error.unwrap_or(Errno::IO)),
            }
        }
    }
    Ok(())
}

/// Ranges in the making: pages come in rising order.
#[derive(Default)]
struct Pages(Vec<PageRange>);

impl Pages {
    fn add(&mut self, page: u64) {
        let ranges = self.0.len();
        match self.0.last_mut() {
            Some(range) if range.first + range.count == page => range.count += 1,
            _ if ranges < MOST_RANGES => self.0.push(PageRange { first: page, count: 1 }),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_there_before_they_are_written_and_what_is_no_memory_is_passed_over() {
        let memory = memory::at(&[(1 << 20, 1 << 20)]);
        assert!(populate(&memory, 1 << 20, 8192));
        for (start, length) in [(0, 4096), ((2 << 20) - 4096, 8192), (1 << 20, u64::MAX), (u64::MAX, 4096)] {
            assert!(!populate(&memory, start, length), "{start} {length}");
        }
        assert_eq!(bytes(PageRange { first: u64::MAX / 4096 + 1, count: 1 }), None);
    }

    #[test]
    fn pages_side_by_side_are_one_range_and_there_is_an_end_to_them() {
        let mut pages = Pages::default();
        [3, 4, 5, 9, 11, 12].into_iter().for_each(|page| pages.add(page));
        let range = |first, count| PageRange { first, count };
        assert_eq!(pages.0, [range(3, 3), range(9, 1), range(11, 2)]);
        (10..10_000).for_each(|page| pages.add(page * 2));
        assert_eq!(pages.0.len(), MOST_RANGES);
    }
}
