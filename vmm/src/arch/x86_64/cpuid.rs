//! What the guest's CPUs say they are: what KVM supports on this host, as one socket of single-threaded
//! cores.

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::{Cap, Kvm};

/// CPUID for every vCPU a VM may come to have. KVM is asked once: the answer is long to compute.
pub struct Cpuid {
    common: CpuId,
    cpus: u8,
}

#[derive(Debug, thiserror::Error)]
pub enum CpuidError {
    #[error("KVM does not tell which CPUID it supports")]
    Supported(#[source] kvm_ioctls::Error),
    #[error("the host's CPUID has too many entries")]
    TooMany,
}

impl Cpuid {
    pub fn new(kvm: &Kvm, cpus: u8) -> Result<Self, CpuidError> {
        let supported = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(CpuidError::Supported)?;
        let deadline_timer = kvm.check_extension(Cap::TscDeadlineTimer);
        Self::from_supported(supported.as_slice(), deadline_timer, cpus)
    }

    fn from_supported(
        supported: &[kvm_cpuid_entry2],
        deadline_timer: bool,
        cpus: u8,
    ) -> Result<Self, CpuidError> {
        let mut entries: Vec<_> =
            supported.iter().filter(|entry| !is_topology(entry.function)).copied().collect();
        for entry in &mut entries {
            adjust(entry, deadline_timer, cpus);
        }
        entries.extend(topology_levels(cpus));
        Ok(Self { common: CpuId::from_entries(&entries).map_err(|_| CpuidError::TooMany)?, cpus })
    }

    /// That of a VM of at most so many vCPUs, from what one of them has.
    pub fn again(of_vcpu: &[kvm_cpuid_entry2], cpus: u8) -> Result<Self, CpuidError> {
        Ok(Self { common: CpuId::from_entries(of_vcpu).map_err(|_| CpuidError::TooMany)?, cpus })
    }

    /// How many vCPUs the VM may come to have.
    pub fn cpus(&self) -> u8 {
        self.cpus
    }

    /// The leaves of one vCPU, which differ in its APIC id.
    pub fn of_vcpu(&self, apic_id: u8) -> CpuId {
        let mut cpuid = self.common.clone();
        for entry in cpuid.as_mut_slice() {
            match entry.function {
                0x1 => {
                    let logical_processors = u32::from(self.cpus) << 16;
                    entry.ebx = entry.ebx & 0xffff | logical_processors | u32::from(apic_id) << 24;
                }
                0xb | 0x1f => entry.edx = u32::from(apic_id),
                0x8000_001e => {
                    entry.eax = u32::from(apic_id);
                    // One thread to a core; a core's id is its APIC id's low byte. One node.
                    entry.ebx = u32::from(apic_id);
                    entry.ecx = 0;
                }
                _ => {}
            }
        }
        cpuid
    }
}

/// The leaves that list topology levels; they are made anew.
fn is_topology(function: u32) -> bool {
    matches!(function, 0xb | 0x1f | 0x8000_0026)
}

/// What all vCPUs share (Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E).
fn adjust(entry: &mut kvm_cpuid_entry2, deadline_timer: bool, cpus: u8) {
    const ECX1_PDCM: u32 = 1 << 15;
    const ECX1_TSC_DEADLINE: u32 = 1 << 24;
    const ECX1_HYPERVISOR: u32 = 1 << 31;
    const EDX1_MULTI_THREADING: u32 = 1 << 28;
    const EAX6_ALWAYS_RUNNING_APIC_TIMER: u32 = 1 << 2;
    const ECX8000_0001_PERFCTR_CORE: u32 = 1 << 23;

    let last_id = u32::from(cpus.saturating_sub(1));
    match entry.function {
        0x1 => {
            entry.ecx |= ECX1_HYPERVISOR;
            entry.ecx &= !ECX1_PDCM;
            if deadline_timer {
                entry.ecx |= ECX1_TSC_DEADLINE;
            }
            entry.edx &= !EDX1_MULTI_THREADING;
            if cpus > 1 {
                entry.edx |= EDX1_MULTI_THREADING;
            }
        }
        // Caches: first and second level are a core's own, the third the socket's. 31:26 counts cores.
        0x4 if entry.eax & 0x1f != 0 => {
            let sharers = if entry.eax >> 5 & 0x7 >= 3 { last_id } else { 0 };
            entry.eax = entry.eax & 0x3fff | sharers << 14 | last_id.min(0x3f) << 26;
        }
        // With it the kernel needs no PIT to calibrate or to wake from idle.
        0x6 => {
            *entry =
                kvm_cpuid_entry2 { function: 0x6, eax: EAX6_ALWAYS_RUNNING_APIC_TIMER, ..Default::default() };
        }
        // No performance counters: nothing in a sandbox reads them, and each probe would be an exit.
        0xa | 0x8000_0022 => {
            (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0);
        }
        0x8000_0001 => entry.ecx &= !ECX8000_0001_PERFCTR_CORE,
        0x8000_0008 => entry.ecx = apic_id_bits(cpus) << 12 | last_id,
        0x8000_001d if entry.eax & 0x1f != 0 => {
            let sharers = if entry.eax >> 5 & 0x7 >= 3 { last_id } else { 0 };
            entry.eax = entry.eax & 0x3fff | sharers << 14;
        }
        _ => {}
    }
}

/// Leaf 0xb: one thread to a core, all cores in one package.
fn topology_levels(cpus: u8) -> [kvm_cpuid_entry2; 3] {
    const THREAD_LEVEL: u32 = 1;
    const CORE_LEVEL: u32 = 2;
    let level = |index: u32, eax: u32, ebx: u32, kind: u32| kvm_cpuid_entry2 {
        function: 0xb,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax,
        ebx,
        ecx: index | kind << 8,
        ..Default::default()
    };
    [
        level(0, 0, 1, THREAD_LEVEL),
        level(1, apic_id_bits(cpus), u32::from(cpus), CORE_LEVEL),
        level(2, 0, 0, 0),
    ]
}

/// How many bits of the APIC id number the cores of the package.
fn apic_id_bits(cpus: u8) -> u32 {
    u32::from(cpus).next_power_of_two().trailing_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(function: u32, registers: [u32; 4]) -> kvm_cpuid_entry2 {
        let [eax, ebx, ecx, edx] = registers;
        kvm_cpuid_entry2 { function, eax, ebx, ecx, edx, ..Default::default() }
    }

    fn leaf(cpuid: &CpuId, function: u32, index: u32) -> kvm_cpuid_entry2 {
        let found: Vec<_> =
            cpuid.as_slice().iter().filter(|e| (e.function, e.index) == (function, index)).collect();
        assert_eq!(found.len(), 1, "leaf {function:#x}.{index}");
        *found[0]
    }

    #[test]
    fn every_vcpu_has_its_own_id_and_all_are_one_socket() {
        let host = [
            entry(0x1, [0, 0xaabb_cc00, 0, 0]),
            // Levels of the host, which must not show.
            entry(0xb, [4, 16, 0x100, 7]),
            entry(0x8000_0008, [48, 0, 0x700f, 0]),
        ];
        let cpuid = Cpuid::from_supported(&host, true, 6).unwrap();
        for id in [0, 5] {
            let of_vcpu = cpuid.of_vcpu(id);
            assert_eq!(leaf(&of_vcpu, 0x1, 0).ebx, u32::from(id) << 24 | 6 << 16 | 0xcc00);
            assert_eq!(leaf(&of_vcpu, 0xb, 0).ebx, 1);
            let cores = leaf(&of_vcpu, 0xb, 1);
            assert_eq!((cores.eax, cores.ebx, cores.edx), (3, 6, u32::from(id)));
            assert_eq!(leaf(&of_vcpu, 0x8000_0008, 0).ecx, 3 << 12 | 5);
        }
    }

    #[test]
    fn what_one_vcpu_has_tells_what_another_is_to_have() {
        let host = [entry(0x1, [0, 0xaabb_cc00, 0, 0]), entry(0x8000_001e, [0; 4])];
        let cpuid = Cpuid::from_supported(&host, true, 4).unwrap();
        let again = Cpuid::again(cpuid.of_vcpu(0).as_slice(), 4).unwrap();
        assert_eq!(again.of_vcpu(3).as_slice(), cpuid.of_vcpu(3).as_slice());
        let many = [entry(0x1, [0; 4]); KVM_MAX_CPUID_ENTRIES + 1];
        assert!(matches!(Cpuid::again(&many, 4), Err(CpuidError::TooMany)));
    }

    #[test]
    fn the_guest_sees_a_hypervisor_timers_and_no_counters() {
        let host = [entry(0x1, [0; 4]), entry(0x6, [u32::MAX; 4]), entry(0xa, [u32::MAX; 4])];
        let of_vcpu = Cpuid::from_supported(&host, true, 1).unwrap().of_vcpu(0);
        let features = leaf(&of_vcpu, 0x1, 0);
        assert_ne!(features.ecx & 1 << 31, 0);
        assert_ne!(features.ecx & 1 << 24, 0);
        assert_eq!(features.edx & 1 << 28, 0, "one CPU is no multi-threading");
        assert_eq!(leaf(&of_vcpu, 0x6, 0).eax, 1 << 2);
        assert_eq!(leaf(&of_vcpu, 0xa, 0).eax, 0);

        let without = Cpuid::from_supported(&host, false, 1).unwrap().of_vcpu(0);
        assert_eq!(leaf(&without, 0x1, 0).ecx & 1 << 24, 0);
    }

    #[test]
    fn a_cache_of_the_third_level_is_shared_and_the_others_are_not() {
        let second = 2 << 5 | 2;
        let third = 3 << 5 | 3 | 0xff << 14;
        let host =
            [entry(0x4, [second, 0, 0, 0]), kvm_cpuid_entry2 { index: 1, ..entry(0x4, [third, 0, 0, 0]) }];
        let of_vcpu = Cpuid::from_supported(&host, true, 4).unwrap().of_vcpu(0);
        assert_eq!(leaf(&of_vcpu, 0x4, 0).eax >> 14 & 0xfff, 0);
        assert_eq!(leaf(&of_vcpu, 0x4, 1).eax >> 14 & 0xfff, 3);
    }
}
