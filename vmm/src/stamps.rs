//! When each step of the start was done.

use rustix::time::{ClockId, clock_gettime};
use vmm_api::Stamp;

#[derive(Default)]
pub struct Stamps(Vec<Stamp>);

impl Stamps {
    /// The step called so has just been finished.
    pub fn mark(&mut self, step: &str) {
        let now = clock_gettime(ClockId::Monotonic);
        // The monotonic clock is never negative.
        let nanoseconds = |part: i64| u64::try_from(part).unwrap_or_default();
        let at = nanoseconds(now.tv_sec) * 1_000_000_000 + nanoseconds(now.tv_nsec);
        self.0.push(Stamp { step: step.to_owned(), at });
    }

    pub fn take(&mut self) -> Vec<Stamp> {
        std::mem::take(&mut self.0)
    }
}
