//! A pod: one sandbox, and the containers in it. A container alone is a pod of one.
//!
//! Its VM is launched in the network namespace that the configuration names, or a new one; files come by shares; the
//! network is taken when a container starts, for by then whoever made the pod has set it up.

mod container;
mod error;
mod files;
mod limits;
mod parameters;
mod resize;
mod root;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ring::digest::{SHA256, digest};
use rustix::system::uname;
use sandbox::{
    ContainerConfig, Ended, FsMount, Installation, Label, NetworkConfig, NetworkNamespace, PortsError,
    Sandbox, SandboxConfig, SeccompFilter, SharedPids, StateDir, Stdio, Streams, Timeline,
};
use tokio::sync::Mutex;

use crate::bundle::Bundle;
use crate::cgroup_path::cgroup_path;
use crate::guest_spec::{Network, Plan};
use crate::membership::Membership;
use crate::network_rates;
use crate::size::Size;

use self::files::Given;
use self::limits::Limits;

pub use container::Container;
pub use error::{ErrorKind, PodError};

/// What of this host a pod is launched from.
#[derive(Debug, Clone)]
pub struct Host {
    pub installation: Installation,
    pub state: StateDir,
}

/// What a front end calls a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodId {
    /// containerd's; or a name of the front end's own.
    pub namespace: String,
    pub id: String,
}

pub struct Pod {
    sandbox: Sandbox,
    state: StateDir,
    /// Whether a container looks for names where only the host's network namespace has a server.
    relays_names: AtomicBool,
    /// Whether others look for its ports in the host's network namespace, and do not find them yet.
    lacks_ports: AtomicBool,
    limits: Mutex<Limits>,
    /// Kernel parameters, of namespaces that all containers share.
    parameters: HashMap<String, String>,
}

impl Host {
    pub fn find() -> Result<Self, PodError> {
        Ok(Self { installation: Installation::find()?, state: StateDir::open()? })
    }
}

impl PodId {
    /// What its sandbox's record is called. Both names together can be longer than that may be.
    pub fn record(&self) -> String {
        let whole = format!("{}/{}", self.namespace, self.id);
        digest(&SHA256, whole.as_bytes()).as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Pod {
    /// Launches the sandbox for a container that is alone, or a pod's first.
    pub async fn launch(
        host: &Host,
        id: &PodId,
        bundle: &Bundle,
        timeline: &Timeline,
    ) -> Result<Self, PodError> {
        // What cannot be is refused before there is a VM.
        let membership = Membership::of(bundle);
        let plan = Plan::of(bundle, &membership, false)?;
        let size = Size::of(bundle);
        let limits = Limits::of(&membership, &size);
        let config = SandboxConfig {
            label: label(id, bundle),
            // As without a VM, where a container that asks for no name has the host's.
            hostname: bundle.spec.hostname().clone().unwrap_or_else(host_name),
            vcpus: size.vcpus,
            memory_limit: size.memory_limit,
            image: Vec::new(),
            scratch: None,
            limits: size.limits,
            from: None,
            network: Some(NetworkConfig {
                namespace: match plan.network {
                    Network::Namespace(path) => NetworkNamespace::open(&path)?,
                    Network::New => NetworkNamespace::create()?,
                },
                rates: network_rates::of(bundle)?,
            }),
            shares: true,
            cgroup_parent: cgroup_path(&bundle.spec),
        };
        let sandbox = Sandbox::launch(&host.installation, &host.state, config, timeline).await?;
        Ok(Self {
            sandbox,
            state: host.state.clone(),
            relays_names: AtomicBool::new(false),
            lacks_ports: AtomicBool::new(membership != Membership::Alone),
            limits: Mutex::new(limits),
            parameters: parameters::of_pod(&plan.spec),
        })
    }

    /// A process in the pod's network namespace, which is gone when the VM is.
    pub fn pid(&self) -> u32 {
        self.sandbox.vmm_pid()
    }

    /// Makes a container. `rootfs` is as containerd hands it over; where it is empty, the bundle says where the root is.
    /// `shared_pids` are those of [`joined_pid`](crate::joined_pid), if they are of this pod.
    pub async fn create(
        &self,
        id: &str,
        bundle: &Bundle,
        rootfs: &[FsMount],
        stdio: Stdio,
        shared_pids: Option<SharedPids>,
    ) -> Result<(Container, Streams), PodError> {
        let membership = Membership::of(bundle);
        let Plan { mut spec, binds, devices, seccomp, .. } =
            Plan::of(bundle, &membership, shared_pids.is_some())?;
        parameters::add(&self.parameters, &mut spec);
        let seccomp = seccomp.map(|profile| SeccompFilter::of(&profile, &self.state)).transpose()?;
        if files::asks_docker_for_names(&spec, &binds) {
            self.relays_names.store(true, Ordering::Relaxed);
        }
        // The one that keeps a pod runs nothing.
        if membership != Membership::Sandbox {
            self.make_room_for(id, &bundle.spec).await?;
        }
        let mut given = Given::default();
        let made = async {
            let rootfs = self.give_files(bundle, rootfs, &mut spec, &binds, &mut given).await?;
            self.give_devices(&mut spec, &devices, &mut given).await?;
            let config = ContainerConfig {
                id: id.to_owned(),
                spec: spec.clone(),
                seccomp,
                rootfs,
                stdio,
                user: String::new(),
                files: Vec::new(),
                init: false,
                shared_pids,
            };
            let created = self.sandbox.guest().create_container(config).await;
            created.map_err(|error| PodError::create(error, &spec))
        };
        match made.await {
            Ok((process, streams)) => {
                let guest = self.sandbox.guest().clone();
                Ok((Container { id: id.to_owned(), process, guest, given, spec }, streams))
            }
            Err(error) => {
                // Nothing has run in it, and written.
                let _ = self.take_back(given).await;
                self.forget_limits_of(id).await;
                Err(error)
            }
        }
    }

    /// Starts a container's process. The pod's network is what its namespace has by now.
    pub async fn start(&self, container: &Container) -> Result<(), PodError> {
        self.sandbox.take_network(self.relays_names.load(Ordering::Relaxed)).await?;
        // Nothing of the tenant's has run yet: see the method.
        self.sandbox.learn_working_set().await;
        container.process.start().await.map_err(|error| PodError::create(error, &container.spec))
    }

    /// Has a pod's ports be found where Kubernetes looks for those it forwards: on the loopback of the network namespace that
    /// was made for it. In that of a container alone others may listen themselves, as with Docker's `--network container:`.
    /// Tried once: it works without.
    pub async fn forward_ports(&self) -> Result<(), PortsError> {
        if self.lacks_ports.swap(false, Ordering::Relaxed) {
            self.sandbox.forward_ports().await
        } else {
            Ok(())
        }
    }

    /// Removes a container that has ended, or never started. What it wrote is on its disks when this succeeds.
    pub async fn remove(&self, container: Container) -> Result<(), PodError> {
        let Container { id, guest, given, .. } = container;
        let removed = guest.remove_container(&id).await;
        let taken = self.take_back(given).await;
        self.forget_limits_of(&id).await;
        removed?;
        Ok(taken?)
    }

    /// Waits for the VM's end, also when this value goes meanwhile.
    pub fn ended(&self) -> impl Future<Output = Arc<Ended>> + Send + use<> {
        self.sandbox.ended()
    }

    /// Ends the VM, and leaves nothing behind.
    pub async fn stop(self) -> Arc<Ended> {
        self.sandbox.stop().await
    }
}

fn host_name() -> String {
    uname().nodename().to_string_lossy().into_owned()
}

fn label(id: &PodId, bundle: &Bundle) -> Label {
    let process = bundle.spec.process().clone().unwrap_or_default();
    Label {
        id: id.record(),
        name: id.record(),
        image: bundle.root().display().to_string(),
        command: process.args().clone().unwrap_or_default(),
        process,
        user: String::new(),
    }
}
