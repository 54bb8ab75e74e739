//! When each step of the start was done.

use rustix::time::{ClockId, clock_gettime};
use vmm_api::Stamp;

/// CLOCK_REALTIME, in ns.
pub fn wall_clock() -> u64 {
    read(ClockId::Realtime)
}

fn read(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    // Neither clock is negative on a host that was set right.
    let nanoseconds = |part: i64| u64::try_from(part).unwrap_or_default();
    nanoseconds(now.tv_sec) * 1_000_000_000 + nanoseconds(now.tv_nsec)
}

#[derive(Default)]
pub struct Stamps(Vec<Stamp>);

impl Stamps {
    /// The step called so has just been finished.
    pub fn mark(&mut self, step: &str) {
        self.0.push(Stamp { step: step.to_owned(), at: read(ClockId::Monotonic) });
    }

    pub fn take(&mut self) -> Vec<Stamp> {
        std::mem::take(&mut self.0)
    }
}
