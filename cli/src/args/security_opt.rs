//! `--security-opt`: `seccomp=…` and `no-new-privileges`.

use std::path::PathBuf;
use std::str::FromStr;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SecurityOpt {
    Seccomp(SeccompChoice),
    NoNewPrivileges(bool),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum SeccompChoice {
    /// Docker's profile.
    #[default]
    BuiltIn,
    Unconfined,
    /// A profile in Docker's format or the OCI's.
    File(PathBuf),
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("write seccomp=unconfined, seccomp=PROFILE.json or no-new-privileges")]
pub(crate) struct SecurityOptError;

impl FromStr for SecurityOpt {
    type Err = SecurityOptError;

    fn from_str(text: &str) -> Result<Self, SecurityOptError> {
        // Docker takes a colon as well, from before it took the equals sign.
        let (name, value) =
            text.split_once(['=', ':']).map_or((text, None), |(name, value)| (name, Some(value)));
        match (name, value) {
            ("no-new-privileges", None | Some("true")) => Ok(Self::NoNewPrivileges(true)),
            ("no-new-privileges", Some("false")) => Ok(Self::NoNewPrivileges(false)),
            ("seccomp", Some("unconfined")) => Ok(Self::Seccomp(SeccompChoice::Unconfined)),
            ("seccomp", Some("builtin")) => Ok(Self::Seccomp(SeccompChoice::BuiltIn)),
            ("seccomp", Some(path)) if !path.is_empty() => {
                Ok(Self::Seccomp(SeccompChoice::File(path.into())))
            }
            _ => Err(SecurityOptError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_separators_are_taken() {
        for text in ["seccomp=unconfined", "seccomp:unconfined"] {
            assert_eq!(text.parse(), Ok(SecurityOpt::Seccomp(SeccompChoice::Unconfined)));
        }
        for text in ["no-new-privileges", "no-new-privileges=true", "no-new-privileges:true"] {
            assert_eq!(text.parse(), Ok(SecurityOpt::NoNewPrivileges(true)));
        }
        assert_eq!("seccomp=a.json".parse(), Ok(SecurityOpt::Seccomp(SeccompChoice::File("a.json".into()))));
    }

    #[test]
    fn others_are_refused() {
        for text in ["", "seccomp", "seccomp=", "no-new-privileges=maybe", "apparmor=unconfined"] {
            assert_eq!(text.parse::<SecurityOpt>(), Err(SecurityOptError), "{text}");
        }
    }
}
