//! When to try again, and how long to wait before.

use std::time::{Duration, SystemTime};

use super::error::RegistryCause;

/// Attempts at one request, the first included.
const MAX_ATTEMPTS: u32 = 5;
/// The wait after the first failure; it doubles from then on.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Who asks for a longer wait than this is not waited for.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// A failure that may pass, and when the next attempt is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// What failed, in words.
    pub reason: String,
    /// How long to wait.
    pub duration: Duration,
}

/// Waits between attempts. A caller's own may tell the user; a test's does not wait.
pub trait Patience: Send + Sync {
    /// Returns when the next attempt is due.
    fn wait(&self, wait: &Wait);
}

/// Waits, and says nothing.
#[derive(Clone, Copy, Debug)]
pub struct Sleeping;

impl Patience for Sleeping {
    fn wait(&self, wait: &Wait) {
        std::thread::sleep(wait.duration);
    }
}

/// The attempts at one request.
pub(super) struct Attempts {
    failed: u32,
}

impl Attempts {
    pub(super) fn new() -> Self {
        Attempts { failed: 0 }
    }

    /// Whether to try once more after this failure; returns when it is time to.
    pub(super) fn again(&mut self, cause: &RegistryCause, patience: &dyn Patience) -> bool {
        self.failed += 1;
        let asked = cause.wait();
        if !cause.may_pass() || self.failed >= MAX_ATTEMPTS || asked.is_some_and(|wait| wait > MAX_WAIT) {
            return false;
        }
        let own = FIRST_WAIT * 2_u32.pow(self.failed - 1);
        let duration = asked.unwrap_or_default().max(jittered(own));
        patience.wait(&Wait { reason: cause.to_string(), duration });
        true
    }

    /// Forgets the failures: what was asked for has come a good way since.
    pub(super) fn forget(&mut self) {
        self.failed = 0;
    }
}

/// Between half of it and all of it, so that those who failed together do not come back together.
fn jittered(wait: Duration) -> Duration {
    let mut random = [0; 4];
    // Without randomness, all wait the full time.
    let filled = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    let share = if filled.is_ok() { u32::from_ne_bytes(random) } else { u32::MAX };
    wait / 2 + (wait / 2).mul_f64(f64::from(share) / f64::from(u32::MAX))
}

/// RFC 9110, 10.2.3: seconds, or a date.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::registry::message::Message;

    #[derive(Default)]
    struct Recording(Mutex<Vec<Duration>>);

    impl Patience for Recording {
        fn wait(&self, wait: &Wait) {
            self.0.lock().unwrap().push(wait.duration);
        }
    }

    fn limited(wait: Option<u64>) -> RegistryCause {
        let wait = wait.map(Duration::from_secs);
        RegistryCause::RateLimited { registry: "r".into(), wait, message: Message::default() }
    }

    fn waits(cause: &RegistryCause) -> Vec<Duration> {
        let recording = Recording::default();
        let mut attempts = Attempts::new();
        while attempts.again(cause, &recording) {}
        recording.0.into_inner().unwrap()
    }

    #[test]
    fn waits_double_and_end() {
        let waits = waits(&limited(None));
        assert_eq!(waits.len(), 4);
        for (wait, full) in waits.iter().zip([1, 2, 4, 8].map(Duration::from_secs)) {
            assert!((full / 2..=full).contains(wait), "{wait:?} {full:?}");
        }
    }

    #[test]
    fn a_registry_is_left_alone_as_long_as_it_asks_but_not_for_hours() {
        assert_eq!(waits(&limited(Some(30))), [Duration::from_secs(30); 4]);
        assert!(waits(&limited(Some(3600))).is_empty());
        assert!(waits(&RegistryCause::Schema1).is_empty());
    }

    #[test]
    fn both_forms_of_retry_after_are_read() {
        let now = httpdate::parse_http_date("Tue, 24 Nov 2026 15:00:00 GMT").unwrap();
        let read = |value| retry_after(value, now).map(|wait| wait.as_secs());
        assert_eq!(read("7"), Some(7));
        assert_eq!(read("Tue, 24 Nov 2026 15:00:42 GMT"), Some(42));
        assert_eq!(read("Tue, 24 Nov 2026 14:00:00 GMT"), Some(0));
        for wrong in ["", "-1", "soon", "99999999999999999999999"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
