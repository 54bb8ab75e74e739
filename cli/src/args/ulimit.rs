//! `--ulimit`: a resource limit, `name=soft[:hard]`.

use std::str::FromStr;

use oci_spec::OciSpecError;
use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType};

const NAMES: [(&str, PosixRlimitType); 16] = [
    ("as", PosixRlimitType::RlimitAs),
    ("core", PosixRlimitType::RlimitCore),
    ("cpu", PosixRlimitType::RlimitCpu),
    ("data", PosixRlimitType::RlimitData),
    ("fsize", PosixRlimitType::RlimitFsize),
    ("locks", PosixRlimitType::RlimitLocks),
    ("memlock", PosixRlimitType::RlimitMemlock),
    ("msgqueue", PosixRlimitType::RlimitMsgqueue),
    ("nice", PosixRlimitType::RlimitNice),
    ("nofile", PosixRlimitType::RlimitNofile),
    ("nproc", PosixRlimitType::RlimitNproc),
    ("rss", PosixRlimitType::RlimitRss),
    ("rtprio", PosixRlimitType::RlimitRtprio),
    ("rttime", PosixRlimitType::RlimitRttime),
    ("sigpending", PosixRlimitType::RlimitSigpending),
    ("stack", PosixRlimitType::RlimitStack),
];

/// One limit; no limit at all is `u64::MAX`, the kernel's RLIM_INFINITY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ulimit {
    pub kind: PosixRlimitType,
    pub soft: u64,
    pub hard: u64,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UlimitError {
    #[error("write name=soft or name=soft:hard, such as nofile=1024:2048")]
    Malformed,
    #[error(
        "there is no limit of that name; there are as, core, cpu, data, fsize, locks, memlock, msgqueue, \
             nice, nofile, nproc, rss, rtprio, rttime, sigpending and stack"
    )]
    UnknownName,
    #[error("the soft limit is above the hard one")]
    SoftAboveHard,
}

impl FromStr for Ulimit {
    type Err = UlimitError;

    fn from_str(text: &str) -> Result<Self, UlimitError> {
        let (name, values) = text.split_once('=').ok_or(UlimitError::Malformed)?;
        let kind = NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, kind)| *kind)
            .ok_or(UlimitError::UnknownName)?;
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let (soft, hard) = (value(soft)?, value(hard)?);
        if soft > hard {
            return Err(UlimitError::SoftAboveHard);
        }
        Ok(Self { kind, soft, hard })
    }
}

fn value(text: &str) -> Result<u64, UlimitError> {
    match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        number if number.bytes().all(|byte| byte.is_ascii_digit()) => {
            number.parse().map_err(|_| UlimitError::Malformed)
        }
        _ => Err(UlimitError::Malformed),
    }
}

impl TryFrom<Ulimit> for PosixRlimit {
    type Error = OciSpecError;

    fn try_from(ulimit: Ulimit) -> Result<Self, OciSpecError> {
        PosixRlimitBuilder::default().typ(ulimit.kind).soft(ulimit.soft).hard(ulimit.hard).build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_both_limits() {
        let kind = PosixRlimitType::RlimitNofile;
        assert_eq!("nofile=1024".parse(), Ok(Ulimit { kind, soft: 1024, hard: 1024 }));
        assert_eq!("nofile=1024:2048".parse(), Ok(Ulimit { kind, soft: 1024, hard: 2048 }));
        assert_eq!("nofile=1024:-1".parse(), Ok(Ulimit { kind, soft: 1024, hard: u64::MAX }));
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for text in ["nofile", "nofile=", "nofile=a", "nofile=1:", "nofile=1:2:3", "nofile=-2", "nofile=+1"] {
            assert_eq!(text.parse::<Ulimit>(), Err(UlimitError::Malformed), "{text}");
        }
        assert_eq!("files=1".parse::<Ulimit>(), Err(UlimitError::UnknownName));
        assert_eq!("core=2:1".parse::<Ulimit>(), Err(UlimitError::SoftAboveHard));
    }
}
