//! Token buckets: how much may be sent or received in a time.

use std::time::{Duration, Instant};

use vmm_api::{RateLimit, TokenBucket};

const SECOND: u128 = 1_000_000_000;

/// How many tokens are waited for, as a part of those that come in a second: one at a time would wake the thread for
/// each frame.
const WAITED_FOR: u64 = 1000;

/// What is waited at a time where the clock cannot say for how long it would be.
const LONGEST: Duration = Duration::from_secs(3600);

/// A limit of one direction.
#[derive(Default)]
pub(super) struct Limiter {
    bytes: Option<Bucket>,
    frames: Option<Bucket>,
}

impl Limiter {
    pub(super) fn new(limit: Option<RateLimit>, now: Instant) -> Self {
        let RateLimit { bytes, packets } = limit.unwrap_or_default();
        let bucket = |bucket: Option<TokenBucket>| bucket.map(|bucket| Bucket::new(bucket, now));
        Self { bytes: bucket(bytes), frames: bucket(packets) }
    }

    /// Until when the next frame has to wait.
    pub(super) fn wait(&mut self, now: impl FnOnce() -> Instant) -> Option<Instant> {
        if self.bytes.is_none() && self.frames.is_none() {
            return None;
        }
        let now = now();
        let buckets = [&mut self.bytes, &mut self.frames];
        let wait = buckets.into_iter().flatten().filter_map(|bucket| bucket.wait(now)).max()?;
        Some(now.checked_add(wait).unwrap_or(now + LONGEST))
    }

    /// A frame of so many bytes went.
    pub(super) fn take(&mut self, bytes: usize) {
        if let Some(bucket) = &mut self.bytes {
            bucket.take(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        if let Some(bucket) = &mut self.frames {
            bucket.take(1);
        }
    }
}

struct Bucket {
    size: i64,
    /// Tokens a second.
    refill: u64,
    /// Below zero after a frame that was longer than what there was: how long one is shows only when it is there.
    tokens: i64,
    /// Up to when tokens came in.
    filled: Instant,
}

impl Bucket {
    fn new(TokenBucket { size, refill }: TokenBucket, now: Instant) -> Self {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        Self { size, refill: refill.max(1), tokens: size, filled: now }
    }

    fn take(&mut self, tokens: i64) {
        self.tokens = self.tokens.saturating_sub(tokens);
    }

    /// Lets in what has come up to now. Time that made no whole token counts the next time.
    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled).as_nanos();
        let came = passed.saturating_mul(u128::from(self.refill)) / SECOND;
        let tokens = self.tokens.saturating_add(i64::try_from(came).unwrap_or(i64::MAX));
        if tokens >= self.size {
            (self.tokens, self.filled) = (self.size, now);
        } else {
            self.tokens = tokens;
            self.filled += time_of(came, self.refill);
        }
    }

    fn wait(&mut self, now: Instant) -> Option<Duration> {
        self.fill(now);
        if self.tokens > 0 {
            return None;
        }
        let enough = i64::try_from(self.refill / WAITED_FOR).unwrap_or(i64::MAX).clamp(1, self.size.max(1));
        let missing = u128::from(enough.saturating_sub(self.tokens).unsigned_abs());
        Some(time_of(missing, self.refill) + Duration::from_nanos(1))
    }
}

/// In which so many tokens come in.
fn time_of(tokens: u128, refill: u64) -> Duration {
    let nanoseconds = tokens.saturating_mul(SECOND) / u128::from(refill.max(1));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(bytes: Option<(u64, u64)>, packets: Option<(u64, u64)>, now: Instant) -> Limiter {
        let bucket = |(size, refill)| TokenBucket { size, refill };
        Limiter::new(Some(RateLimit { bytes: bytes.map(bucket), packets: packets.map(bucket) }), now)
    }

    /// How many frames of a length go in a time, when each waits as long as it is told to.
    fn frames_in(limiter: &mut Limiter, length: usize, start: Instant, time: Duration) -> u64 {
        let (mut now, mut frames) = (start, 0);
        loop {
            while let Some(until) = limiter.wait(|| now) {
                now = until;
            }
            if now >= start + time {
                return frames;
            }
            limiter.take(length);
            frames += 1;
            // A frame takes time too.
            now += Duration::from_nanos(300);
        }
    }

    #[test]
    fn without_a_limit_nothing_waits_and_no_clock_is_read() {
        let mut limiter = Limiter::default();
        limiter.take(1 << 30);
        assert_eq!(limiter.wait(|| panic!("a clock")), None);
    }

    #[test]
    fn what_goes_in_a_time_is_the_burst_and_what_comes_in() {
        let (start, ten) = (Instant::now(), Duration::from_secs(10));
        let mut bytes = limiter(Some((50_000, 100_000)), None, start);
        let frames = frames_in(&mut bytes, 1000, start, ten);
        assert!((1040..=1060).contains(&frames), "{frames}");
        let mut packets = limiter(None, Some((5, 7)), start);
        let frames = frames_in(&mut packets, 1000, start, ten);
        assert!((74..=76).contains(&frames), "{frames}");
        // Of a bucket that holds one, a part of a token runs over now and then.
        let mut both = limiter(Some((1 << 40, 1 << 40)), Some((1, 100_000)), start);
        let frames = frames_in(&mut both, 1000, start, Duration::from_secs(1));
        assert!((95_000..=100_002).contains(&frames), "{frames}");
    }

    #[test]
    fn a_frame_longer_than_the_bucket_goes_and_is_paid_for() {
        let start = Instant::now();
        let mut limiter = limiter(Some((10, 1000)), None, start);
        assert_eq!(limiter.wait(|| start), None);
        limiter.take(1010);
        let until = limiter.wait(|| start).unwrap();
        let wait = until - start;
        assert!(wait > Duration::from_secs(1) && wait < Duration::from_millis(1003), "{wait:?}");
        assert_eq!(limiter.wait(|| until), None);
    }

    #[test]
    fn extremes_do_not_overflow() {
        let start = Instant::now();
        for (size, refill) in [(u64::MAX, u64::MAX), (1, 1), (0, 0), (1, u64::MAX)] {
            let mut limiter = limiter(Some((size, refill)), Some((size, refill)), start);
            for _ in 0..10 {
                limiter.take(usize::MAX);
                let _ = limiter.wait(|| start + Duration::from_secs(1 << 32));
            }
        }
    }
}
