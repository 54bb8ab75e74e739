//! Makes this guest someone: randomness, time and a name of its own.
//!
//! Clones of one memory image share all three until they adopt.

use std::fs::File;
use std::io;

use agent_api::agent::AdoptRequest;
use rustix::system::sethostname;
use rustix::time::{ClockId, Timespec, clock_settime};

use crate::ioctls;

/// The least the contract allows: the seed of the kernel's generator (drivers/char/random.c).
const MIN_ENTROPY_LEN: usize = 32;

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
    let nanoseconds = request.wall_clock_ns;
    let now = Timespec {
        tv_sec: nanoseconds.div_euclid(1_000_000_000),
        tv_nsec: nanoseconds.rem_euclid(1_000_000_000),
    };
    clock_settime(ClockId::Realtime, now).map_err(|error| AdoptError::Clock(error.into()))?;
    if !request.hostname.is_empty() {
        sethostname(request.hostname.as_bytes())
            .map_err(|error| AdoptError::Hostname { name: request.hostname.clone(), source: error.into() })?;
    }
    Ok(())
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
