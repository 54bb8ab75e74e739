//! Kernel parameters of namespaces that all containers of a pod share with its guest.

use std::collections::HashMap;

use oci_spec::runtime::Spec;

/// What a new network namespace has them at (Linux net/ipv4/af_inet.c). The agent sets them as Docker does, and so has Docker
/// say; behind other engines, low ports and pings are not for everybody unless they say so.
const OF_NETWORK: [(&str, &str); 2] =
    [("net.ipv4.ip_unprivileged_port_start", "1024"), ("net.ipv4.ping_group_range", "1 0")];

/// Those a pod has by its first container, which does not run if there are others.
pub(super) fn of_pod(spec: &Spec) -> HashMap<String, String> {
    let asked = asked(spec);
    let is_asked = |name: &str| asked.keys().any(|asked| asked.replace('/', ".") == name);
    let unsaid = OF_NETWORK.into_iter().filter(|(name, _)| !is_asked(name));
    let unsaid: Vec<_> = unsaid.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    asked.into_iter().chain(unsaid).collect()
}

/// Adds those of the pod's that a container says nothing of.
pub(super) fn add(of_pod: &HashMap<String, String>, spec: &mut Spec) {
    let mut parameters = of_pod.clone();
    parameters.extend(asked(spec));
    if let Some(linux) = spec.linux_mut() {
        linux.set_sysctl(Some(parameters));
    }
}

fn asked(spec: &Spec) -> HashMap<String, String> {
    spec.linux().as_ref().and_then(|linux| linux.sysctl().clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(parameters: &str) -> Spec {
        let spec = format!(r#"{{"ociVersion":"1.2.0","linux":{{"sysctl":{{{parameters}}}}}}}"#);
        serde_json::from_str(&spec).unwrap()
    }

    const PORTS: &str = "net.ipv4.ip_unprivileged_port_start";

    #[test]
    fn low_ports_are_for_everybody_where_the_engine_says_so() {
        assert_eq!(of_pod(&spec(""))[PORTS], "1024");
        assert_eq!(of_pod(&spec(&format!(r#""{PORTS}":"0""#)))[PORTS], "0");
        let with_slashes = of_pod(&spec(r#""net/ipv4/ip_unprivileged_port_start":"0""#));
        assert_eq!(with_slashes.get(PORTS), None);
    }

    #[test]
    fn a_container_has_its_pods_unless_it_says_otherwise() {
        let of_pod = of_pod(&spec(r#""net.core.somaxconn":"100""#));
        let mut container = spec(r#""net.core.somaxconn":"200""#);
        add(&of_pod, &mut container);
        let parameters = asked(&container);
        assert_eq!((&*parameters["net.core.somaxconn"], &*parameters[PORTS]), ("200", "1024"));
    }
}
