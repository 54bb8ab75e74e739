//! The state in which a vCPU enters the kernel.

use kvm_bindings::{CpuId, Msrs, kvm_msr_entry, kvm_regs, kvm_segment, kvm_xcrs};
use kvm_ioctls::VcpuFd;

use super::layout;

#[derive(Debug, thiserror::Error)]
pub enum RegistersError {
    #[error("cannot set the vCPU's registers")]
    Kvm(#[from] kvm_ioctls::Error),
    #[error("KVM took {0} of {1} model-specific registers")]
    Msrs(usize, usize),
}

/// 32-bit protected mode with flat segments, paging off, and the start info's address in ebx.
pub fn enter_pvh(vcpu: &VcpuFd, entry: u64) -> Result<(), RegistersError> {
    const CR0_PROTECTED: u64 = 1;
    const CR0_EXTENSION_TYPE: u64 = 1 << 4;
    const RFLAGS_ALWAYS_ONE: u64 = 1 << 1;
    const CODE_EXECUTE_READ: u8 = 0xb;
    const DATA_READ_WRITE: u8 = 0x3;

    let mut special = vcpu.get_sregs()?;
    special.cr0 = CR0_PROTECTED | CR0_EXTENSION_TYPE;
    special.cr4 = 0;
    special.efer = 0;
    special.cs = flat_segment(0x8, CODE_EXECUTE_READ);
    let data = flat_segment(0x10, DATA_READ_WRITE);
    (special.ds, special.es, special.fs, special.gs, special.ss) = (data, data, data, data, data);
    special.tr = busy_tss();
    vcpu.set_sregs(&special)?;
    vcpu.set_regs(&kvm_regs {
        rflags: RFLAGS_ALWAYS_ONE,
        rip: entry,
        rbx: layout::START_INFO,
        ..Default::default()
    })?;
    Ok(())
}

/// Enables every processor state the guest may use. It does so itself, but KVM does not hear of it where it
/// runs in an emulator that lets XSETBV by, and then tells the guest sizes that do not fit.
pub fn enable_states(vcpu: &VcpuFd, cpuid: &CpuId) -> Result<(), RegistersError> {
    const STATES: u32 = 0xd;
    let Some(leaf) = cpuid.as_slice().iter().find(|entry| (entry.function, entry.index) == (STATES, 0))
    else {
        return Ok(());
    };
    let mut registers = kvm_xcrs { nr_xcrs: 1, ..Default::default() };
    registers.xcrs[0].value = u64::from(leaf.edx) << 32 | u64::from(leaf.eax);
    Ok(vcpu.set_xcrs(&registers)?)
}

/// What firmware would have left behind: memory cached, fast string operations on.
pub fn set_msrs(vcpu: &VcpuFd) -> Result<(), RegistersError> {
    const MISC_ENABLE: u32 = 0x1a0;
    const MISC_ENABLE_FAST_STRING: u64 = 1;
    const MTRR_DEFAULT_TYPE: u32 = 0x2ff;
    const MTRR_ENABLED_WRITE_BACK: u64 = 1 << 11 | 6;

    let entries = [(MISC_ENABLE, MISC_ENABLE_FAST_STRING), (MTRR_DEFAULT_TYPE, MTRR_ENABLED_WRITE_BACK)]
        .map(|(index, data)| kvm_msr_entry { index, data, ..Default::default() });
    let msrs = Msrs::from_entries(&entries).map_err(|_| RegistersError::Msrs(0, entries.len()))?;
    let taken = vcpu.set_msrs(&msrs)?;
    if taken == entries.len() { Ok(()) } else { Err(RegistersError::Msrs(taken, entries.len())) }
}

/// A present 32-bit code or data segment over all 4 GiB (Intel SDM volume 3, §3.4.5).
fn flat_segment(selector: u16, type_: u8) -> kvm_segment {
    kvm_segment { limit: u32::MAX, selector, type_, present: 1, db: 1, s: 1, g: 1, ..Default::default() }
}

fn busy_tss() -> kvm_segment {
    const BUSY_32_BIT_TSS: u8 = 0xb;
    kvm_segment { limit: 0x67, selector: 0x18, type_: BUSY_32_BIT_TSS, present: 1, ..Default::default() }
}
