//! A view of one vCPU's `kvm_run.immediate_exit`, for whoever wants it out of the guest (Linux
//! Documentation/virt/kvm/api.rst §5): set, the next KVM_RUN returns at once.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};

use kvm_bindings::kvm_run;
use kvm_ioctls::VcpuFd;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A second mapping of the first page of the vCPU's `kvm_run`, so that no reference to what the vCPU's
/// thread uses is shared.
pub(super) struct ImmediateExit {
    page: NonNull<libc::c_void>,
}

const PAGE: usize = 4096;

// SAFETY: the page stays mapped for the value's life and is only accessed atomically.
unsafe impl Send for ImmediateExit {}

impl ImmediateExit {
    pub(super) fn of(vcpu: &VcpuFd) -> io::Result<Self> {
        // SAFETY: `vcpu` keeps its descriptor open during this borrow.
        let descriptor = unsafe { BorrowedFd::borrow_raw(vcpu.as_raw_fd()) };
        // SAFETY: a new mapping at an address of the kernel's choice; a vCPU has at least one such page.
        let page = unsafe {
            mmap(
                std::ptr::null_mut(),
                PAGE,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                descriptor,
                0,
            )
        }?;
        let page = NonNull::new(page).ok_or_else(|| io::Error::other("a mapping at address zero"))?;
        Ok(Self { page })
    }

    pub(super) fn set(&self) {
        const OFFSET: usize = std::mem::offset_of!(kvm_run, immediate_exit);
        // SAFETY: the offset lies within the page, and a byte is always aligned.
        let flag = unsafe { AtomicU8::from_ptr(self.page.as_ptr().cast::<u8>().add(OFFSET)) };
        flag.store(1, Ordering::SeqCst);
    }
}

impl Drop for ImmediateExit {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own. It cannot fail for a mapping that exists.
        let _ = unsafe { munmap(self.page.as_ptr(), PAGE) };
    }
}
