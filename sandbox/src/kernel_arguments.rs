//! The guest kernel's command line: ours alone; nothing of a tenant's gets into it.

/// Each with its reason:
/// - `console=ttyS0 quiet loglevel=1`: the console is there, so that a panic's last lines reach the VMM's
///   ring, and silent before, for each byte of it leaves the guest once.
/// - `reboot=k panic=-1`: a reset by the keyboard controller, at once after a panic: the VM ends either way.
/// - `nomodule`: nothing is to be loaded.
/// - `i8042.*`: no keyboard to be looked for.
/// - `tsc=reliable no_timer_check`: KVM keeps the TSC and timers true; measuring them is lost time.
/// - `random.trust_cpu=on`: no wait for randomness at boot; the adopted identity reseeds.
/// - `swiotlb=noforce cryptomgr.notests`: no bounce buffer, no self-tests.
const FIXED: &str = "console=ttyS0 quiet loglevel=1 reboot=k panic=-1 nomodule \
    8250.nr_uarts=1 i8042.noaux i8042.nomux i8042.dumbkbd tsc=reliable no_timer_check random.trust_cpu=on \
    swiotlb=noforce cryptomgr.notests";

/// The command line, with what the operator of this host adds.
pub(crate) fn command_line(added: &str) -> String {
    format!("{FIXED} {added}").trim_end().to_owned()
}
