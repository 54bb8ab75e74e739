//! Whether a container is a pod's, by the annotations that CRI's implementations put into its configuration.

use crate::bundle::Bundle;

/// containerd's and CRI-O's names for the same two things: what a container is, and whose.
const CONVENTIONS: [(&str, &str); 2] =
    [("io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id"), (CRI_O_KIND, CRI_O_POD)];

const CRI_O_KIND: &str = "io.kubernetes.cri-o.ContainerType";
const CRI_O_POD: &str = "io.kubernetes.cri-o.SandboxID";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Membership {
    /// A container of its own.
    Alone,
    /// The pod's first, which only keeps it: nothing has to run for it.
    Sandbox,
    /// One that joins the pod with this id.
    Member { pod: String },
}

impl Membership {
    pub fn of(bundle: &Bundle) -> Self {
        for (kind, pod) in CONVENTIONS {
            match (bundle.annotation(kind), bundle.annotation(pod)) {
                (Some("sandbox"), _) => return Self::Sandbox,
                (Some("container"), Some(pod)) => return Self::Member { pod: pod.to_owned() },
                _ => {}
            }
        }
        // Podman says only whose, and nothing of the container that keeps a pod of its: that one runs, like any that is alone.
        match (bundle.annotation(CRI_O_KIND), bundle.annotation(CRI_O_POD)) {
            (None, Some(pod)) => Self::Member { pod: pod.to_owned() },
            _ => Self::Alone,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use oci_spec::runtime::Spec;

    use super::*;

    fn membership(annotations: &[(&str, &str)]) -> Membership {
        let mut spec = Spec::default();
        let pairs = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        spec.set_annotations(Some(pairs.collect()));
        Membership::of(&Bundle { path: PathBuf::new(), spec })
    }

    #[test]
    fn both_conventions_are_known() {
        let kinds = ["io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"];
        let pods = ["io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID"];
        for (kind, pod) in kinds.into_iter().zip(pods) {
            assert_eq!(membership(&[(kind, "sandbox"), (pod, "p")]), Membership::Sandbox);
            let member = Membership::Member { pod: "p".to_owned() };
            assert_eq!(membership(&[(kind, "container"), (pod, "p")]), member);
        }
        let podmans = membership(&[("io.kubernetes.cri-o.SandboxID", "p")]);
        assert_eq!(podmans, Membership::Member { pod: "p".to_owned() });
        assert_eq!(membership(&[]), Membership::Alone);
        assert_eq!(membership(&[("io.kubernetes.cri.container-type", "container")]), Membership::Alone);
    }
}
