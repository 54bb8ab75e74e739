//! Makes this guest someone: randomness, time and a name of its own.
//!
//! Clones of one memory image share all three until they adopt.

use std::fs::File;
use std::io;

use agent_api::agent::AdoptRequest;
use rustix::system::sethostname;
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

use crate::ioctls;

/// The least the contract allows: the seed of the kernel's generator (drivers/char/random.c).
const MIN_ENTROPY_LEN: usize = 32;

const NS_PER_S: i64 = 1_000_000_000;

#[derive(Debug, thiserror::Error)]
pub(crate) enum AdoptError {
    #[error("{0} bytes of entropy are fewer than the {MIN_ENTROPY_LEN} required")]
    TooLittleEntropy(usize),
    #[error("cannot reseed the kernel's generator")]
    Reseed(#[source] io::Error),
    #[error("cannot set the clock")]
    Clock(#[source] io::Error),
    #[error("cannot take the hostname {name:?}")]
    Hostname { name: String, source: io::Error },
}

pub(crate) fn adopt(request: &AdoptRequest) -> Result<(), AdoptError> {
    if request.entropy.len() < MIN_ENTROPY_LEN {
        return Err(AdoptError::TooLittleEntropy(request.entropy.len()));
    }
    reseed(&request.entropy).map_err(AdoptError::Reseed)?;
    let now = true_time(nanoseconds(clock_gettime(ClockId::Realtime)), request);
    clock_settime(ClockId::Realtime, timespec(now)).map_err(|error| AdoptError::Clock(error.into()))?;
    if !request.hostname.is_empty() {
        sethostname(request.hostname.as_bytes())
            .map_err(|error| AdoptError::Hostname { name: request.hostname.clone(), source: error.into() })?;
    }
    Ok(())
}

/// The time it is while this guest's clock says `clock`, in ns.
fn true_time(clock: i64, request: &AdoptRequest) -> i64 {
    /// No call takes so long: a clock that is further off was set to something else.
    const DOUBT: u64 = 2_000_000_000;
    let advanced = clock.saturating_add_unsigned(request.clock_behind_ns);
    let believable = advanced.abs_diff(request.wall_clock_ns) < DOUBT;
    if request.clock_behind_ns > 0 && believable { advanced } else { request.wall_clock_ns }
}

fn nanoseconds(time: Timespec) -> i64 {
    time.tv_sec.saturating_mul(NS_PER_S).saturating_add(time.tv_nsec)
}

fn timespec(nanoseconds: i64) -> Timespec {
    Timespec { tv_sec: nanoseconds.div_euclid(NS_PER_S), tv_nsec: nanoseconds.rem_euclid(NS_PER_S) }
}

fn reseed(entropy: &[u8]) -> io::Result<()> {
    let random = File::options().write(true).open("/dev/urandom")?;
    for chunk in entropy.chunks(ioctls::ENTROPY_LEN) {
        let mut bytes = [0; ioctls::ENTROPY_LEN];
        for (byte, given) in bytes.iter_mut().zip(chunk) {
            *byte = *given;
        }
        ioctls::add_entropy(&random, &bytes, chunk.len())?;
    }
    Ok(ioctls::reseed(&random)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_behind_is_advanced_unless_that_is_absurd() {
        let request = |wall_clock_ns, clock_behind_ns| AdoptRequest {
            wall_clock_ns,
            clock_behind_ns,
            ..Default::default()
        };
        let hour = 3600 * NS_PER_S;
        // The call took 70 ms.
        assert_eq!(true_time(7, &request(hour - 70_000_000, hour as u64)), hour + 7);
        assert_eq!(true_time(7, &request(5 * hour, hour as u64)), 5 * hour);
        assert_eq!(true_time(7, &request(hour, 0)), hour);
        assert_eq!(true_time(7, &request(hour, u64::MAX)), hour);
    }

    #[test]
    fn a_time_before_1970_has_its_seconds_and_nanoseconds() {
        for time in [-1, -NS_PER_S, 0, 1, 5 * NS_PER_S + 3] {
            assert_eq!(nanoseconds(timespec(time)), time);
        }
    }
}
