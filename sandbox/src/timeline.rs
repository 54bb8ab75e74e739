//! When each step of a sandbox's life was done: what `--timing` prints.

use std::sync::{Arc, Mutex, PoisonError};

use rustix::time::{ClockId, clock_gettime};
pub use vmm_api::Stamp;

/// A list of [`Stamp`]s that everyone who holds a clone adds to.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    stamps: Arc<Mutex<Vec<Stamp>>>,
}

impl Timeline {
    /// Notes that `step` is done as of now.
    pub fn mark(&self, step: &str) {
        self.add(Stamp { step: step.to_owned(), at: now() });
    }

    /// Takes in a step that someone else timed, on the same clock.
    pub fn add(&self, stamp: Stamp) {
        self.stamps.lock().unwrap_or_else(PoisonError::into_inner).push(stamp);
    }

    /// The steps so far, earliest first.
    pub fn stamps(&self) -> Vec<Stamp> {
        let mut stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner).clone();
        stamps.sort_by_key(|stamp| stamp.at);
        stamps
    }
}

/// CLOCK_MONOTONIC in ns.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_come_out_in_the_order_they_happened_whoever_timed_them() {
        let timeline = Timeline::default();
        timeline.mark("last");
        timeline.clone().add(Stamp { step: "first".to_owned(), at: 1 });
        let steps: Vec<_> = timeline.stamps().into_iter().map(|stamp| stamp.step).collect();
        assert_eq!(steps, ["first", "last"]);
    }
}
