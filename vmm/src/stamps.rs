//! What time it is: when each step of the start was done, and when a guest's clocks are read or set.

use rustix::time::{ClockId, clock_gettime};
use vmm_api::Stamp;

/// Does what takes or gives clocks of a guest, which is told what time it is, in ns of CLOCK_REALTIME. Where a busy host
/// let it wait meanwhile, it is done again, a few times at most.
pub fn at_one_moment<T, E>(mut work: impl FnMut(u64) -> Result<T, E>) -> Result<T, E> {
    const TRIES: u32 = 5;
    const MOMENT: u64 = 5_000_000;
    for _ in 1..TRIES {
        let begun = read(ClockId::Monotonic);
        let done = work(read(ClockId::Realtime))?;
        if read(ClockId::Monotonic) - begun < MOMENT {
            return Ok(done);
        }
    }
    work(read(ClockId::Realtime))
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
