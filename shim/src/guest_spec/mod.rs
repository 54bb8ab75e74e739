//! What of a container's configuration is the guest's, what the host does for it, and what is refused. docs/oci.md has
//! the outcome as a table.

mod devices;
mod mounts;
mod namespaces;
mod resources;

use std::path::PathBuf;

use oci_spec::runtime::{Linux, LinuxSeccomp, Process, Spec};

use crate::bundle::Bundle;
use crate::membership::Membership;

pub(crate) use devices::BlockDevice;
pub(crate) use mounts::Bind;
pub(crate) use namespaces::Network;
pub use namespaces::joined_pid;
pub(crate) use resources::settle_resources;

/// What a configuration asks for that no VM can give.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error(
        "the host's network cannot be a VM's: give the container a network namespace of its own, or --network none"
    )]
    HostNetwork,
    #[error(
        "the {namespace} namespace of the host, or of another process of it, cannot be a container's in a VM"
    )]
    Namespace { namespace: &'static str },
    #[error("the host's processes cannot be those of a VM: give the container a PID namespace of its own")]
    HostPids,
    #[error(
        "the PID namespace {} cannot be a container's in a VM: only containers of one pod, which run in the same VM, share \
         their processes", .0.display()
    )]
    ForeignPids(PathBuf),
    #[error("a container in a user namespace of its own cannot share the processes of its pod")]
    PidsInUserNamespace,
    #[error("mount {}: file system {kind:?} of the host cannot be given to a VM", destination.display())]
    MountKind { destination: PathBuf, kind: String },
    #[error("mount {}: {} is {what}, which cannot travel to a VM", destination.display(), source_path.display())]
    MountSource { destination: PathBuf, source_path: PathBuf, what: &'static str },
    #[error("mount {}: {}", destination.display(), source_path.display())]
    NoMountSource { destination: PathBuf, source_path: PathBuf, source: std::io::Error },
    #[error("device {}: a VM gets no character device of the host", .0.display())]
    Device(PathBuf),
    #[error("device {}: a container in a user namespace gets no device of the host", .0.display())]
    DeviceInUserNamespace(PathBuf),
    #[error("device {}: no rule of linux.resources.devices lets the container read it", .0.display())]
    DeviceRule(PathBuf),
    #[error("device {}: devices are made below /dev alone", .0.display())]
    DevicePath(PathBuf),
    #[error("device {}: the host has no block device {major}:{minor}", path.display())]
    NoBlockDevice { path: PathBuf, major: i64, minor: i64 },
    #[error("annotation {annotation}: {text:?} is no rate: a number, with k, M or G behind it or none, is")]
    Rate { annotation: &'static str, text: String },
    #[error("{field} cannot be had in a VM: {reason}")]
    Field { field: &'static str, reason: &'static str },
}

/// A container, as far as its guest is concerned, and what is to be done for it on the host.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) spec: Spec,
    /// Mounts of the spec whose source is a path of the host yet.
    pub(crate) binds: Vec<Bind>,
    /// Devices of the spec whose numbers are the host's yet.
    pub(crate) devices: Vec<BlockDevice>,
    /// Compiled on the host.
    pub(crate) seccomp: Option<LinuxSeccomp>,
    pub(crate) network: Network,
}

impl Plan {
    /// `shares_pids`: the processes whose PID namespace it joins, if it joins one, are in the same guest.
    pub(crate) fn of(bundle: &Bundle, membership: &Membership, shares_pids: bool) -> Result<Self, Refusal> {
        let mut spec = bundle.spec.clone();
        let in_pod = *membership != Membership::Alone;
        let mut linux = spec.linux().clone().unwrap_or_default();
        let network = namespaces::settle(&mut linux, in_pod, shares_pids)?;
        let shared_name = !namespaces::has(&linux, oci_spec::runtime::LinuxNamespaceType::Uts);
        let binds = mounts::settle(&mut spec, bundle, in_pod)?;
        let devices = devices::settle(&mut linux)?;
        refuse_what_no_guest_has(&linux)?;
        resources::settle(&mut linux)?;
        let seccomp = linux.seccomp().clone();
        linux.set_seccomp(None);
        linux.set_mount_label(None);
        linux.set_cgroups_path(None);
        spec.set_linux(Some(linux));
        if shared_name {
            spec.set_hostname(None);
        }
        if let Some(process) = spec.process_mut() {
            leave_out_the_hosts(process);
        }
        // Programs of the host, and words for it.
        spec.set_hooks(None);
        spec.set_annotations(None);
        Ok(Self { spec, binds, devices, seccomp, network })
    }
}

/// What names something that is the host's: its security modules, its processors.
pub(crate) fn leave_out_the_hosts(process: &mut Process) {
    process.set_apparmor_profile(None);
    process.set_selinux_label(None);
    process.set_exec_cpu_affinity(None);
}

fn refuse_what_no_guest_has(linux: &Linux) -> Result<(), Refusal> {
    let refused = [
        (linux.intel_rdt().is_some(), "linux.intelRdt", "the host's cache is not a guest's to divide"),
        (linux.memory_policy().is_some(), "linux.memoryPolicy", "a guest has one memory node"),
        (linux.time_offsets().is_some(), "linux.timeOffsets", "its kernel has no time namespaces"),
        (
            linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty()),
            "linux.netDevices",
            "interfaces come from the network namespace",
        ),
    ];
    match refused.into_iter().find(|(asked, ..)| *asked) {
        Some((_, field, reason)) => Err(Refusal::Field { field, reason }),
        None => Ok(()),
    }
}
