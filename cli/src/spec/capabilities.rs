//! Which capabilities a container has: Docker's default set, changed by `--cap-add` and `--cap-drop`.

use std::collections::HashSet;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};

/// What Docker leaves a container.
const DEFAULT: [Capability; 14] = [
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Mknod,
    Capability::NetBindService,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// All there are (capabilities(7)); the guest kernel knows each.
const ALL: [Capability; 41] = [
    Capability::AuditControl,
    Capability::AuditRead,
    Capability::AuditWrite,
    Capability::BlockSuspend,
    Capability::Bpf,
    Capability::CheckpointRestore,
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::Kill,
    Capability::Lease,
    Capability::LinuxImmutable,
    Capability::MacAdmin,
    Capability::MacOverride,
    Capability::Mknod,
    Capability::NetAdmin,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetRaw,
    Capability::Perfmon,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysChroot,
    Capability::SysModule,
    Capability::SysNice,
    Capability::SysPacct,
    Capability::SysPtrace,
    Capability::SysRawio,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Syslog,
    Capability::WakeAlarm,
];

/// A capability as `--cap-add` and `--cap-drop` name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CapabilityName {
    All,
    One(Capability),
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no capability of that name; see capabilities(7), or write ALL")]
pub(crate) struct UnknownCapability;

impl std::str::FromStr for CapabilityName {
    type Err = UnknownCapability;

    fn from_str(text: &str) -> Result<Self, UnknownCapability> {
        let name = text.to_ascii_uppercase();
        if name == "ALL" {
            return Ok(Self::All);
        }
        let name = name.strip_prefix("CAP_").unwrap_or(&name);
        name.parse().map(Self::One).map_err(|_| UnknownCapability)
    }
}

/// Docker's rule: a drop beats an add, unless all were dropped; then what was added is what there is.
pub(crate) fn chosen(add: &[CapabilityName], drop: &[CapabilityName]) -> Capabilities {
    let added = named(add);
    if drop.contains(&CapabilityName::All) {
        return added;
    }
    let base: Capabilities =
        if add.contains(&CapabilityName::All) { HashSet::from(ALL) } else { HashSet::from(DEFAULT) };
    base.union(&added).copied().collect::<Capabilities>().difference(&named(drop)).copied().collect()
}

fn named(names: &[CapabilityName]) -> Capabilities {
    names
        .iter()
        .filter_map(|name| match name {
            CapabilityName::All => None,
            CapabilityName::One(capability) => Some(*capability),
        })
        .collect()
}

/// A process's sets. Not inheritable: a set-uid program of another user's must not gain them
/// (CVE-2022-24769). Another user than root loses the effective ones when the program is executed.
pub(crate) fn sets(capabilities: &Capabilities) -> LinuxCapabilities {
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(capabilities.clone()));
    sets.set_effective(Some(capabilities.clone()));
    sets.set_permitted(Some(capabilities.clone()));
    sets.set_inheritable(None);
    sets.set_ambient(None);
    sets
}

#[cfg(test)]
mod tests {
    use CapabilityName::{All, One};

    use super::*;

    #[test]
    fn names_are_taken_with_and_without_prefix() {
        for text in ["NET_ADMIN", "net_admin", "CAP_NET_ADMIN", "cap_net_admin"] {
            assert_eq!(text.parse(), Ok(One(Capability::NetAdmin)), "{text}");
        }
        assert_eq!("all".parse(), Ok(All));
        for text in ["", "CAP_", "NET-ADMIN", "CAP_CAP_KILL"] {
            assert_eq!(text.parse::<CapabilityName>(), Err(UnknownCapability), "{text}");
        }
    }

    #[test]
    fn adding_and_dropping_goes_as_with_docker() {
        let (admin, chown) = (Capability::SysAdmin, Capability::Chown);
        assert_eq!(chosen(&[], &[]), HashSet::from(DEFAULT));
        assert_eq!(chosen(&[One(admin)], &[]).len(), 15);
        assert_eq!(chosen(&[], &[One(chown)]).len(), 13);
        assert_eq!(chosen(&[One(chown)], &[All]), HashSet::from([chown]));
        assert_eq!(chosen(&[All], &[One(admin)]).len(), 40);
        assert_eq!(chosen(&[All], &[All]), HashSet::new());
        assert_eq!(chosen(&[One(chown)], &[One(chown)]).len(), 13);
    }

    #[test]
    fn the_default_is_the_mask_a_docker_container_shows() {
        // CapEff of `docker run busybox grep Cap /proc/self/status`; bits as in linux/capability.h.
        let bits = [
            (Capability::Chown, 0),
            (Capability::DacOverride, 1),
            (Capability::Fowner, 3),
            (Capability::Fsetid, 4),
            (Capability::Kill, 5),
            (Capability::Setgid, 6),
            (Capability::Setuid, 7),
            (Capability::Setpcap, 8),
            (Capability::NetBindService, 10),
            (Capability::NetRaw, 13),
            (Capability::SysChroot, 18),
            (Capability::Mknod, 27),
            (Capability::AuditWrite, 29),
            (Capability::Setfcap, 31),
        ];
        let mask: u64 =
            bits.iter().filter(|(one, _)| DEFAULT.contains(one)).map(|(_, bit)| 1u64 << bit).sum();
        assert_eq!(mask, 0x0000_0000_a804_25fb);
    }
}
