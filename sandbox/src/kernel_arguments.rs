//! The guest kernel's command line: ours alone; nothing of a tenant's gets into it.

/// Documentation/admin-guide/kernel-parameters.txt tells what each is. Why it is here:
/// - `console=ttyS0 quiet`: with a console, so that errors and a panic's last lines reach the VMM's ring;
///   silent in a boot without any, for each byte of it leaves the guest once.
/// - `reboot=k panic=-1`: after a panic, a reset by the keyboard controller at once: the VM ends either way.
/// - `tsc=reliable no_timer_check`: KVM keeps the TSC and the timers true; measuring them is lost time.
/// - `random.trust_cpu=on`: no wait for randomness at boot; the adopted identity reseeds.
/// - `swiotlb=noforce`: no device here needs bounce buffers.
/// - `rcupdate.rcu_expedited=1`: boot and each container's start wait for grace periods, of several ticks each;
///   with the few CPUs of a guest, interrupting them instead costs little.
/// - `percpu_alloc=page`: the memory of each CPU grows by pages; in its other form a container's first cgroup would have
///   the kernel clear 4 MiB for it, a page copied for each of a template's.
/// - `maxcpus=`: of the CPUs it is told of, the kernel begins with those that are there; others may be added.
const FIXED: &str = "console=ttyS0 quiet reboot=k panic=-1 tsc=reliable no_timer_check random.trust_cpu=on \
    swiotlb=noforce rcupdate.rcu_expedited=1 percpu_alloc=page";

/// The command line of a VM launched with so many vCPUs, with what the operator of this host adds.
pub(crate) fn command_line(vcpus: u8, added: &str) -> String {
    format!("{FIXED} maxcpus={vcpus} {added}").trim_end().to_owned()
}
