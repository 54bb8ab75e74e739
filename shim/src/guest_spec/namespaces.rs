//! Namespaces: those that separate a container from others of its guest stay; what the host's separate is the VM's now.

use std::path::PathBuf;

use oci_spec::runtime::{Linux, LinuxNamespace, LinuxNamespaceType};

use super::Refusal;
use crate::bundle::Bundle;

/// Where a guest's network comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Network {
    /// A namespace somebody made, and will have set up by the container's start.
    Namespace(PathBuf),
    /// A new one, for hooks or the client to set up; else the guest has its loopback alone.
    New,
}

/// The process of the host whose PID namespace a container is to join, where that is named as containerd and Podman do.
pub fn joined_pid(bundle: &Bundle) -> Option<u32> {
    let linux = bundle.spec.linux().as_ref()?;
    let mut namespaces = linux.namespaces().iter().flatten();
    let pids = namespaces.find(|namespace| namespace.typ() == LinuxNamespaceType::Pid)?;
    let path = pids.path().as_ref()?.to_str()?;
    path.strip_prefix("/proc/")?.strip_suffix("/ns/pid")?.parse().ok()
}

/// Leaves the namespaces the guest makes; says what becomes of the network's.
pub(super) fn settle(linux: &mut Linux, in_pod: bool, shares_pids: bool) -> Result<Network, Refusal> {
    let asked = linux.namespaces().clone().unwrap_or_default();
    let network = asked
        .iter()
        .find(|namespace| namespace.typ() == LinuxNamespaceType::Network)
        .map(|namespace| namespace.path().clone().map_or(Network::New, Network::Namespace))
        .ok_or(Refusal::HostNetwork)?;
    if !has(linux, LinuxNamespaceType::Pid) {
        return Err(Refusal::HostPids);
    }
    if shares_pids && has(linux, LinuxNamespaceType::User) {
        // It would have no say over a namespace that was made outside of it (pid_namespaces(7)).
        return Err(Refusal::PidsInUserNamespace);
    }
    let mut kept = Vec::new();
    for namespace in asked {
        if let Some(namespace) = kept_one(namespace, in_pod, shares_pids)? {
            kept.push(namespace);
        }
    }
    linux.set_namespaces(Some(kept));
    Ok(network)
}

pub(super) fn has(linux: &Linux, typ: LinuxNamespaceType) -> bool {
    linux.namespaces().iter().flatten().any(|namespace| namespace.typ() == typ)
}

fn kept_one(
    namespace: LinuxNamespace,
    in_pod: bool,
    shares_pids: bool,
) -> Result<Option<LinuxNamespace>, Refusal> {
    let typ = namespace.typ();
    match (typ, namespace.path()) {
        (LinuxNamespaceType::Network, _) => Ok(None),
        (_, None) => Ok(Some(namespace)),
        // A pod's containers share them: the guest's own are the pod's.
        (LinuxNamespaceType::Ipc | LinuxNamespaceType::Uts, Some(_)) if in_pod => Ok(None),
        // The agent knows where it is in the guest.
        (LinuxNamespaceType::Pid, Some(_)) if shares_pids => Ok(None),
        (LinuxNamespaceType::Pid, Some(path)) => Err(Refusal::ForeignPids(path.clone())),
        (_, Some(_)) => Err(Refusal::Namespace { namespace: name(typ) }),
    }
}

fn name(typ: LinuxNamespaceType) -> &'static str {
    match typ {
        LinuxNamespaceType::Mount => "mount",
        LinuxNamespaceType::Cgroup => "cgroup",
        LinuxNamespaceType::Uts => "uts",
        LinuxNamespaceType::Ipc => "ipc",
        LinuxNamespaceType::User => "user",
        LinuxNamespaceType::Pid => "pid",
        LinuxNamespaceType::Network => "network",
        LinuxNamespaceType::Time => "time",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(
        namespaces: &str,
        in_pod: bool,
        shares_pids: bool,
    ) -> Result<(Network, Vec<LinuxNamespaceType>), Refusal> {
        let mut linux: Linux = serde_json::from_str(&format!("{{\"namespaces\":[{namespaces}]}}")).unwrap();
        let network = settle(&mut linux, in_pod, shares_pids)?;
        Ok((network, linux.namespaces().iter().flatten().map(LinuxNamespace::typ).collect()))
    }

    const NET_PID: &str = r#"{"type":"network"},{"type":"pid"}"#;
    const JOINED: &str = r#"{"type":"network"},{"type":"pid","path":"/proc/7/ns/pid"}"#;

    #[test]
    fn the_network_is_the_vms_and_the_rest_the_guests() {
        let (network, kept) =
            settled(&format!(r#"{NET_PID},{{"type":"mount"}},{{"type":"uts"}}"#), false, false).unwrap();
        assert_eq!(network, Network::New);
        assert_eq!(kept, [LinuxNamespaceType::Pid, LinuxNamespaceType::Mount, LinuxNamespaceType::Uts]);
        let named = r#"{"type":"network","path":"/run/netns/a"},{"type":"pid"}"#;
        let (network, _) = settled(named, false, false).unwrap();
        assert_eq!(network, Network::Namespace("/run/netns/a".into()));
    }

    #[test]
    fn a_pods_containers_share_what_the_pod_has() {
        let ipc = format!(r#"{NET_PID},{{"type":"mount"}},{{"type":"ipc","path":"/proc/1/ns/ipc"}}"#);
        let own = [LinuxNamespaceType::Pid, LinuxNamespaceType::Mount];
        assert_eq!(settled(&ipc, true, false).unwrap().1, own);
        assert!(matches!(settled(&ipc, false, false), Err(Refusal::Namespace { namespace: "ipc" })));
    }

    #[test]
    fn processes_are_shared_within_a_guest_alone() {
        assert_eq!(settled(JOINED, true, true).unwrap().1, []);
        let refused = settled(JOINED, true, false).unwrap_err();
        assert!(matches!(&refused, Refusal::ForeignPids(path) if path.ends_with("7/ns/pid")), "{refused}");
        let with_user = format!(r#"{JOINED},{{"type":"user"}}"#);
        assert!(matches!(settled(&with_user, true, true), Err(Refusal::PidsInUserNamespace)));
        assert!(matches!(settled(r#"{"type":"network"}"#, true, false), Err(Refusal::HostPids)));
    }

    #[test]
    fn whose_processes_are_joined_is_told_by_the_path() {
        let joined = |namespaces: &str| {
            let spec = format!(r#"{{"ociVersion":"1.2.0","linux":{{"namespaces":[{namespaces}]}}}}"#);
            joined_pid(&Bundle { path: PathBuf::new(), spec: serde_json::from_str(&spec).unwrap() })
        };
        assert_eq!(joined(JOINED), Some(7));
        for other in [
            NET_PID,
            r#"{"type":"pid","path":"/run/pidns/7"}"#,
            r#"{"type":"pid","path":"/proc/self/ns/pid"}"#,
        ] {
            assert_eq!(joined(other), None);
        }
    }

    #[test]
    fn the_hosts_network_is_refused() {
        assert!(matches!(settled(r#"{"type":"mount"}"#, false, false), Err(Refusal::HostNetwork)));
    }
}
