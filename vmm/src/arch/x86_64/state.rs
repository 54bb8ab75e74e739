//! What KVM keeps of a VM and of each vCPU, taken out of it and put into another (Linux
//! Documentation/virt/kvm/api.rst).

use kvm_bindings::{
    CpuId, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_MAX_CPUID_ENTRIES, Msrs,
    kvm_clock_data, kvm_cpuid_entry2, kvm_debugregs, kvm_irqchip, kvm_lapic_state, kvm_mp_state,
    kvm_msr_entry, kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use serde::{Deserialize, Serialize};

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("KVM does not tell, or take, {0}")]
    Kvm(&'static str, #[source] kvm_ioctls::Error),
    #[error("KVM does not take model-specific register {0:#x}")]
    Msr(u32),
    #[error("there are too many model-specific registers or CPUID leaves")]
    TooMany,
}

/// Names what was asked for in the error.
fn about<T>(what: &'static str, result: Result<T, kvm_ioctls::Error>) -> Result<T, StateError> {
    result.map_err(|error| StateError::Kvm(what, error))
}

/// The interrupt controllers and the clock, which are the VM's.
#[derive(Serialize, Deserialize)]
pub struct ChipState {
    chips: Vec<kvm_irqchip>,
    clock: kvm_clock_data,
}

impl ChipState {
    pub fn of(vm: &VmFd) -> Result<Self, StateError> {
        let chips = [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC].map(|chip_id| {
            let mut chip = kvm_irqchip { chip_id, ..Default::default() };
            about("an interrupt controller", vm.get_irqchip(&mut chip)).map(|()| chip)
        });
        let chips = chips.into_iter().collect::<Result<_, _>>()?;
        Ok(Self { chips, clock: about("the clock", vm.get_clock())? })
    }

    /// The clock goes on from where it was.
    pub fn put_into(&self, vm: &VmFd) -> Result<(), StateError> {
        for chip in &self.chips {
            about("an interrupt controller", vm.set_irqchip(chip))?;
        }
        // Flags would ask KVM to add the time that has passed, or say what is only told.
        let clock = kvm_clock_data { clock: self.clock.clock, ..Default::default() };
        about("the clock", vm.set_clock(&clock))
    }
}

#[derive(Serialize, Deserialize)]
pub struct VcpuState {
    cpuid: Vec<kvm_cpuid_entry2>,
    run_state: kvm_mp_state,
    registers: kvm_regs,
    special: kvm_sregs,
    extended_control: kvm_xcrs,
    extended: kvm_xsave,
    debug: kvm_debugregs,
    local_apic: kvm_lapic_state,
    msrs: Vec<kvm_msr_entry>,
    events: kvm_vcpu_events,
}

impl VcpuState {
    /// Of a vCPU that has completed its last exit. `msrs` are the registers to look for.
    pub fn of(vcpu: &VcpuFd, msrs: &[u32]) -> Result<Self, StateError> {
        let cpuid = about("CPUID", vcpu.get_cpuid2(KVM_MAX_CPUID_ENTRIES))?;
        Ok(Self {
            cpuid: cpuid.as_slice().to_vec(),
            // First: asking for it lets a pending INIT take effect.
            run_state: about("whether a vCPU runs", vcpu.get_mp_state())?,
            registers: about("the registers", vcpu.get_regs())?,
            special: about("the special registers", vcpu.get_sregs())?,
            extended_control: about("the extended control registers", vcpu.get_xcrs())?,
            extended: about("the extended state", vcpu.get_xsave())?,
            debug: about("the debug registers", vcpu.get_debug_regs())?,
            local_apic: about("the local APIC", vcpu.get_lapic())?,
            msrs: read_msrs(vcpu, msrs)?,
            events: about("pending events", vcpu.get_vcpu_events())?,
        })
    }

    pub fn cpuid(&self) -> &[kvm_cpuid_entry2] {
        &self.cpuid
    }

    /// The order matters: what a register may hold depends on CPUID, the local APIC's on the special registers, the
    /// deadline's on the local APIC's.
    pub fn put_into(&self, vcpu: &VcpuFd) -> Result<(), StateError> {
        let cpuid = CpuId::from_entries(&self.cpuid).map_err(|_| StateError::TooMany)?;
        about("CPUID", vcpu.set_cpuid2(&cpuid))?;
        about("the special registers", vcpu.set_sregs(&self.special))?;
        about("the registers", vcpu.set_regs(&self.registers))?;
        about("the extended control registers", vcpu.set_xcrs(&self.extended_control))?;
        // SAFETY: KVM reads more than the struct only where a feature that needs more was enabled for this process
        // (arch_prctl, ARCH_REQ_XCOMP_GUEST_PERM), which nobody does.
        about("the extended state", unsafe { vcpu.set_xsave(&self.extended) })?;
        about("the debug registers", vcpu.set_debug_regs(&self.debug))?;
        about("the local APIC", vcpu.set_lapic(&self.local_apic))?;
        write_msrs(vcpu, &self.msrs)?;
        about("pending events", vcpu.set_vcpu_events(&self.events))?;
        about("whether a vCPU runs", vcpu.set_mp_state(self.run_state))
    }
}

/// Sets the time-stamp counter far from where it is to be. KVM takes a write near a counter it knows for one that is meant
/// to be in step with that, and gives it that one's value (arch/x86/kvm/x86.c, kvm_synchronize_tsc): so would the first
/// counter of a guest that has run for less than a second, or one that is put in a second time.
pub fn put_out_of_step(vcpu: &VcpuFd, state: &VcpuState) -> Result<(), StateError> {
    const TIME_STAMP_COUNTER: u32 = 0x10;
    /// Days, at any frequency.
    const FAR: u64 = 1 << 50;
    let Some(counter) = state.msrs.iter().find(|entry| entry.index == TIME_STAMP_COUNTER) else {
        return Ok(());
    };
    write_msrs(vcpu, &[kvm_msr_entry { data: counter.data.wrapping_add(FAR), ..*counter }])
}

/// The registers KVM says are a vCPU's state, in rising order: the time-stamp counter (0x10) comes before the deadline
/// that counts on it (0x6e0).
pub fn msrs_of_state(kvm: &Kvm) -> Result<Vec<u32>, StateError> {
    const MTRR_DEFAULT_TYPE: u32 = 0x2ff;
    let list = about("which model-specific registers there are", kvm.get_msr_index_list())?;
    let mut indices = list.as_slice().to_vec();
    indices.push(MTRR_DEFAULT_TYPE);
    indices.sort_unstable();
    indices.dedup();
    Ok(indices)
}

/// KVM stops at a register that this vCPU does not have; that one is passed over.
fn read_msrs(vcpu: &VcpuFd, mut indices: &[u32]) -> Result<Vec<kvm_msr_entry>, StateError> {
    let mut read = Vec::with_capacity(indices.len());
    while !indices.is_empty() {
        let wanted: Vec<_> =
            indices.iter().map(|index| kvm_msr_entry { index: *index, ..Default::default() }).collect();
        let mut msrs = Msrs::from_entries(&wanted).map_err(|_| StateError::TooMany)?;
        let count = about("the model-specific registers", vcpu.get_msrs(&mut msrs))?;
        read.extend(msrs.as_slice().iter().take(count));
        indices = indices.get(count + 1..).unwrap_or_default();
    }
    Ok(read)
}

/// KVM stops at a register it does not take. One that reads as zero may be missing elsewhere, or be read-only.
fn write_msrs(vcpu: &VcpuFd, mut entries: &[kvm_msr_entry]) -> Result<(), StateError> {
    while !entries.is_empty() {
        let msrs = Msrs::from_entries(entries).map_err(|_| StateError::TooMany)?;
        let count = about("the model-specific registers", vcpu.set_msrs(&msrs))?;
        if let Some(refused) = entries.get(count).filter(|refused| refused.data != 0) {
            return Err(StateError::Msr(refused.index));
        }
        entries = entries.get(count + 1..).unwrap_or_default();
    }
    Ok(())
}
