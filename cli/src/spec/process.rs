//! The process of a container, or a further one.

use oci_spec::OciSpecError;
use oci_spec::runtime::{LinuxCapabilities, PosixRlimit, Process, User};

use crate::args::Ulimit;
use crate::container::Command;

/// As many open files as systemd's services have.
const DEFAULT_ULIMITS: [&str; 2] = ["nofile=1024:524288", "nproc=unlimited"];

/// The process of a container that is to run `command`. Its user is looked up in the guest.
pub(crate) fn process(
    command: &Command,
    capabilities: LinuxCapabilities,
    ulimits: &[Ulimit],
    no_new_privileges: bool,
) -> Result<Process, OciSpecError> {
    let mut process = Process::default();
    process.set_user(User::default());
    process.set_terminal(Some(command.terminal));
    process.set_args(Some(command.args.clone()));
    process.set_env(Some(command.environment.clone()));
    process.set_cwd(command.directory.clone());
    process.set_capabilities(Some(capabilities));
    process.set_rlimits(Some(rlimits(ulimits)?));
    process.set_no_new_privileges(Some(no_new_privileges));
    process.set_oom_score_adj(Some(0));
    Ok(process)
}

/// The limits asked for, and the defaults of others; of several for one resource the last counts.
fn rlimits(ulimits: &[Ulimit]) -> Result<Vec<PosixRlimit>, OciSpecError> {
    let mut limits: Vec<Ulimit> = DEFAULT_ULIMITS.iter().filter_map(|text| text.parse().ok()).collect();
    for ulimit in ulimits {
        limits.retain(|known| known.kind != ulimit.kind);
        limits.push(*ulimit);
    }
    limits.into_iter().map(PosixRlimit::try_from).collect()
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::PosixRlimitType;

    use super::*;

    #[test]
    fn the_last_limit_for_a_resource_counts() {
        let given: Vec<Ulimit> =
            ["nofile=10", "core=0", "nofile=20:30"].map(|text| text.parse().unwrap()).to_vec();
        let limits = rlimits(&given).unwrap();
        let nofile: Vec<_> =
            limits.iter().filter(|limit| limit.typ() == PosixRlimitType::RlimitNofile).collect();
        assert_eq!(nofile.iter().map(|limit| (limit.soft(), limit.hard())).collect::<Vec<_>>(), [(20, 30)]);
        assert_eq!(limits.len(), 3);
    }

    #[test]
    fn the_defaults_are_limits() {
        assert_eq!(rlimits(&[]).unwrap().len(), DEFAULT_ULIMITS.len());
    }
}
