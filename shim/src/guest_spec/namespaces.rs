//! Namespaces: those that separate a container from others of its guest stay; what the host's separate is the VM's now.

use std::path::PathBuf;

use oci_spec::runtime::{Linux, LinuxNamespace, LinuxNamespaceType};

use super::Refusal;

/// Where a guest's network comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Network {
    /// A namespace somebody made, and will have set up by the container's start.
    Namespace(PathBuf),
    /// A new one, for hooks or the client to set up; else the guest has its loopback alone.
    New,
}

/// Leaves the namespaces the guest makes; says what becomes of the network's.
pub(super) fn settle(linux: &mut Linux, in_pod: bool) -> Result<Network, Refusal> {
    let asked = linux.namespaces().clone().unwrap_or_default();
    let network = asked
        .iter()
        .find(|namespace| namespace.typ() == LinuxNamespaceType::Network)
        .map(|namespace| namespace.path().clone().map_or(Network::New, Network::Namespace))
        .ok_or(Refusal::HostNetwork)?;
    let mut kept = Vec::new();
    for namespace in asked {
        if let Some(namespace) = kept_one(namespace, in_pod)? {
            kept.push(namespace);
        }
    }
    linux.set_namespaces(Some(kept));
    Ok(network)
}

pub(super) fn has(linux: &Linux, typ: LinuxNamespaceType) -> bool {
    linux.namespaces().iter().flatten().any(|namespace| namespace.typ() == typ)
}

fn kept_one(namespace: LinuxNamespace, in_pod: bool) -> Result<Option<LinuxNamespace>, Refusal> {
    let elsewhere = namespace.path().is_some();
    match namespace.typ() {
        LinuxNamespaceType::Network => Ok(None),
        // A pod's containers share them: the guest's own are the pod's.
        LinuxNamespaceType::Ipc | LinuxNamespaceType::Uts if in_pod && elsewhere => Ok(None),
        _ if !elsewhere => Ok(Some(namespace)),
        other => Err(Refusal::Namespace { namespace: name(other) }),
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

    fn settled(namespaces: &str, in_pod: bool) -> Result<(Network, Vec<LinuxNamespaceType>), Refusal> {
        let mut linux: Linux = serde_json::from_str(&format!("{{\"namespaces\":[{namespaces}]}}")).unwrap();
        let network = settle(&mut linux, in_pod)?;
        Ok((network, linux.namespaces().iter().flatten().map(LinuxNamespace::typ).collect()))
    }

    const NET: &str = r#"{"type":"network"}"#;

    #[test]
    fn the_network_is_the_vms_and_the_rest_the_guests() {
        let (network, kept) =
            settled(&format!(r#"{NET},{{"type":"mount"}},{{"type":"uts"}}"#), false).unwrap();
        assert_eq!(network, Network::New);
        assert_eq!(kept, [LinuxNamespaceType::Mount, LinuxNamespaceType::Uts]);
        let (network, _) = settled(r#"{"type":"network","path":"/run/netns/a"}"#, false).unwrap();
        assert_eq!(network, Network::Namespace("/run/netns/a".into()));
    }

    #[test]
    fn a_pods_containers_share_what_the_pod_has() {
        let ipc = format!(r#"{NET},{{"type":"mount"}},{{"type":"ipc","path":"/proc/1/ns/ipc"}}"#);
        assert_eq!(settled(&ipc, true).unwrap().1, [LinuxNamespaceType::Mount]);
        assert!(matches!(settled(&ipc, false), Err(Refusal::Namespace { namespace: "ipc" })));
    }

    #[test]
    fn the_hosts_network_is_refused() {
        assert!(matches!(settled(r#"{"type":"mount"}"#, false), Err(Refusal::HostNetwork)));
    }
}
