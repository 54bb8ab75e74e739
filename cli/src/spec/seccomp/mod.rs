//! A container's seccomp profile: Docker's own, one from a file, or none.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Capabilities, LinuxSeccomp};

use crate::args::SeccompChoice;

mod default_profile;
mod profile;

use profile::{Profile, ProfileError};

/// The longest profile read, in bytes.
const MAX_PROFILE: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub(crate) enum SeccompError {
    #[error("cannot read the seccomp profile {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the seccomp profile {} is not one, or longer than 1 MiB", path.display())]
    Malformed { path: PathBuf, source: serde_json::Error },
    #[error("the seccomp profile cannot be used")]
    Meaningless(#[from] ProfileError),
}

/// The profile for a process with these capabilities.
pub(super) fn seccomp(
    choice: &SeccompChoice,
    capabilities: &Capabilities,
) -> Result<Option<LinuxSeccomp>, SeccompError> {
    let profile = match choice {
        SeccompChoice::Unconfined => return Ok(None),
        SeccompChoice::BuiltIn => default_profile::profile(),
        SeccompChoice::File(path) => read(path)?,
    };
    Ok(Some(profile.resolve(capabilities)?))
}

fn read(path: &Path) -> Result<Profile, SeccompError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_PROFILE).read_to_end(&mut bytes))
        .map_err(|source| SeccompError::Read { path: path.to_owned(), source })?;
    serde_json::from_slice(&bytes).map_err(|source| SeccompError::Malformed { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{Capability, LinuxSeccompAction, LinuxSyscall};

    use super::*;
    use crate::spec::capabilities::chosen;

    fn built_in(added: &[&str]) -> LinuxSeccomp {
        let added: Vec<_> = added.iter().map(|name| name.parse().unwrap()).collect();
        seccomp(&SeccompChoice::BuiltIn, &chosen(&added, &[])).unwrap().unwrap()
    }

    fn rules<'a>(seccomp: &'a LinuxSeccomp, call: &'a str) -> Vec<&'a LinuxSyscall> {
        let rules = seccomp.syscalls().iter().flatten();
        rules.filter(|rule| rule.names().iter().any(|name| name == call)).collect()
    }

    fn is_allowed(seccomp: &LinuxSeccomp, call: &str) -> bool {
        let rules = rules(seccomp, call);
        rules.iter().any(|rule| rule.action() == LinuxSeccompAction::ScmpActAllow && rule.args().is_none())
    }

    #[test]
    fn the_built_in_profile_refuses_what_is_not_named() {
        let seccomp = built_in(&[]);
        assert_eq!(seccomp.default_action(), LinuxSeccompAction::ScmpActErrno);
        assert_eq!(seccomp.default_errno_ret(), Some(1));
        for call in ["read", "execve", "chroot", "arch_prctl"] {
            assert!(is_allowed(&seccomp, call), "{call}");
        }
        for call in ["mount", "unshare", "bpf", "keyctl", "kexec_load", "io_uring_setup", "init_module"] {
            assert!(rules(&seccomp, call).is_empty(), "{call}");
        }
    }

    #[test]
    fn new_namespaces_go_with_cap_sys_admin() {
        let without = built_in(&[]);
        let [clone] = rules(&without, "clone")[..] else { panic!("one rule for clone") };
        let condition = clone.args().as_ref().unwrap().first().unwrap();
        assert_eq!((condition.value(), condition.value_two()), (0x7e02_0000, Some(0)));
        let [clone3] = rules(&without, "clone3")[..] else { panic!("one rule for clone3") };
        assert_eq!((clone3.action(), clone3.errno_ret()), (LinuxSeccompAction::ScmpActErrno, Some(38)));

        let with = built_in(&["SYS_ADMIN"]);
        for call in ["clone", "clone3", "mount", "unshare", "setns"] {
            assert!(is_allowed(&with, call), "{call}");
            assert_eq!(rules(&with, call).len(), 1, "{call}");
        }
    }

    #[test]
    fn each_capability_brings_its_calls() {
        for (capability, call) in
            [("SYS_TIME", "clock_settime"), ("SYSLOG", "syslog"), ("SYS_PTRACE", "kcmp")]
        {
            assert!(!is_allowed(&built_in(&[]), call), "{call}");
            assert!(is_allowed(&built_in(&[capability]), call), "{call}");
        }
        let no_chroot = seccomp(&SeccompChoice::BuiltIn, &[Capability::Chown].into()).unwrap().unwrap();
        assert!(!is_allowed(&no_chroot, "chroot"));
    }

    #[test]
    fn unconfined_is_no_profile() {
        assert_eq!(seccomp(&SeccompChoice::Unconfined, &Capabilities::new()).unwrap(), None);
    }

    #[test]
    fn a_file_that_is_no_profile_is_refused() {
        let read = |path: &str| seccomp(&SeccompChoice::File(path.into()), &Capabilities::new());
        assert!(matches!(read("/nonexistent"), Err(SeccompError::Read { .. })));
        assert!(matches!(read("/dev/null"), Err(SeccompError::Malformed { .. })));
        assert!(matches!(read("/dev/zero"), Err(SeccompError::Malformed { .. })));
    }
}
