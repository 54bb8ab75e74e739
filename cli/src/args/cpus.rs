//! `--cpus`: how much processor time a container gets, in processors.

use std::str::FromStr;

/// The scheduler's period, in microseconds (Linux Documentation/admin-guide/cgroup-v2.rst, cpu.max).
pub(crate) const PERIOD_US: u64 = 100_000;

/// The least quota cpu.max takes, in microseconds of a period.
const MIN_QUOTA_US: u64 = 1_000;

/// The most vCPUs a sandbox has.
const MAX_VCPUS: u64 = 64;

/// Microseconds of processor time in each [`PERIOD_US`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cpus {
    quota_us: u64,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum CpusError {
    #[error("write a number of processors, such as 2 or 0.5")]
    Malformed,
    #[error("it must be at least 0.01")]
    TooSmall,
    #[error("a sandbox has at most {MAX_VCPUS}")]
    TooMany,
}

impl Cpus {
    pub(crate) fn quota_us(self) -> u64 {
        self.quota_us
    }

    /// The vCPUs it takes to use the quota up.
    pub(crate) fn vcpus(self) -> u8 {
        u8::try_from(self.quota_us.div_ceil(PERIOD_US)).unwrap_or(u8::MAX)
    }
}

impl FromStr for Cpus {
    type Err = CpusError;

    fn from_str(text: &str) -> Result<Self, CpusError> {
        if !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return Err(CpusError::Malformed);
        }
        let processors: f64 = text.parse().map_err(|_| CpusError::Malformed)?;
        if processors > MAX_VCPUS as f64 {
            return Err(CpusError::TooMany);
        }
        // At most MAX_VCPUS × PERIOD_US.
        let quota_us = (processors * PERIOD_US as f64).round() as u64;
        if quota_us < MIN_QUOTA_US { Err(CpusError::TooSmall) } else { Ok(Self { quota_us }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_share_a_vcpu() {
        for (text, quota_us, vcpus) in [
            ("1", 100_000, 1),
            ("0.5", 50_000, 1),
            ("1.5", 150_000, 2),
            ("2", 200_000, 2),
            (".25", 25_000, 1),
        ] {
            let cpus: Cpus = text.parse().unwrap();
            assert_eq!((cpus.quota_us(), cpus.vcpus()), (quota_us, vcpus), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_of_processors_is_refused() {
        for text in ["", "x", "-1", "1e3", "inf", "NaN", "1,5"] {
            assert_eq!(text.parse::<Cpus>(), Err(CpusError::Malformed), "{text}");
        }
        assert_eq!("0".parse::<Cpus>(), Err(CpusError::TooSmall));
        assert_eq!("0.001".parse::<Cpus>(), Err(CpusError::TooSmall));
        assert_eq!("65".parse::<Cpus>(), Err(CpusError::TooMany));
    }
}
