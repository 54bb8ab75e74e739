//! The OCI runtime spec of a container: what Docker would make of the same image and flags.
//!
//! What depends on the guest is left to the agent there: the root file system, the cgroup's place, the user's
//! ids and home.

use oci_spec::OciSpecError;
use oci_spec::runtime::{Linux, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, Root, Spec};

use crate::container::Container;

pub(crate) mod capabilities;
pub(crate) mod files;
mod mounts;
mod process;
mod resources;
mod seccomp;

pub(crate) use process::process;
pub(crate) use seccomp::SeccompError;

/// All but the network's: the guest has one network, the sandbox's, which its agent sets up.
const NAMESPACES: [LinuxNamespaceType; 5] = [
    LinuxNamespaceType::Cgroup,
    LinuxNamespaceType::Ipc,
    LinuxNamespaceType::Mount,
    LinuxNamespaceType::Pid,
    LinuxNamespaceType::Uts,
];

#[derive(Debug, thiserror::Error)]
pub(crate) enum SpecError {
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    #[error("cannot put the container's OCI spec together")]
    Oci(#[from] OciSpecError),
}

pub(crate) fn spec(container: &Container) -> Result<Spec, SpecError> {
    let capabilities = capabilities::sets(&container.capabilities);
    let process = process(&container.command, capabilities, &container.ulimits, container.no_new_privileges)?;
    let mut root = Root::default();
    root.set_readonly(Some(container.read_only));

    let mut spec = Spec::default();
    spec.set_process(Some(process));
    spec.set_hostname(Some(container.hostname.clone()));
    spec.set_root(Some(root));
    spec.set_mounts(Some(mounts::mounts(&container.tmpfs, container.shm_size)?));
    spec.set_linux(Some(linux(container)?));
    if !container.annotations.is_empty() {
        spec.set_annotations(Some(container.annotations.clone()));
    }
    Ok(spec)
}

fn linux(container: &Container) -> Result<Linux, SpecError> {
    let mut linux = Linux::default();
    linux.set_namespaces(Some(NAMESPACES.map(namespace).into_iter().collect::<Result<_, _>>()?));
    linux.set_resources(Some(resources::resources(container)?));
    linux.set_seccomp(seccomp::seccomp(&container.seccomp, &container.capabilities)?);
    linux.set_masked_paths(Some(mounts::masked_paths()));
    linux.set_readonly_paths(Some(mounts::read_only_paths()));
    Ok(linux)
}

fn namespace(typ: LinuxNamespaceType) -> Result<LinuxNamespace, OciSpecError> {
    LinuxNamespaceBuilder::default().typ(typ).build()
}
