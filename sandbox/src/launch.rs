//! A start, step by step: from a description to an agent that has adopted its identity.
//!
//! Warm, where there is a template for the machine's shape or one can be made: a saved VM goes on, with this sandbox's
//! disks. Cold otherwise, and where a template turns out to be of no use. Or from a copy of another sandbox's VM.

mod boot;
mod error;
mod source;
mod template;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;

use crate::broker::Broker;
use crate::cgroup::{HostLimits, Plan};
use crate::config::SandboxConfig;
use crate::disks::{self, Descriptors};
use crate::guest::Guest;
use crate::installation::Installation;
use crate::memory::vm_memory;
use crate::network::{Network, NetworkNamespace};
use crate::process_id::ProcessId;
use crate::processors::Processors;
use crate::record::{Claim, StateDir};
use crate::resize::Extent;
use crate::sandbox::Sandbox;
use crate::shares::{FileServer, SERVER_MEMORY, Shares};
use crate::snapshot::SnapshotFiles;
use crate::templates::{Learning, SavedFiles, Shape, Templates};
use crate::timeline::Timeline;
use crate::vmm::{Incoming, Vmm};

use self::source::{Source, Start};

pub use error::{LaunchError, LaunchPhase};
pub use template::build as build_template;

impl Sandbox {
    /// Starts a sandbox; dropped before it is done, it leaves nothing behind.
    pub async fn launch(
        installation: &Installation,
        state: &StateDir,
        config: SandboxConfig,
        timeline: &Timeline,
    ) -> Result<Self, LaunchError> {
        let memory = vm_memory(config.memory_limit)?;
        let shape = Shape::new(config.vcpus, memory);
        let mut claim = state.claim(config.label)?;
        timeline.mark("record written");

        let mut files = Descriptors::default();
        let (disks, rootfs) = disks::describe(
            config.image,
            installation.image_device,
            memory,
            config.scratch.as_ref(),
            &mut files,
        )?;
        let scratch = disks::scratch(&disks, &files).transpose().map_err(LaunchError::Duplicate)?;
        let source = Source { installation, shape, disks, files, identity: claim.record().identity };
        timeline.mark("descriptors opened");

        let confined = if config.shares { memory.saturating_add(SERVER_MEMORY) } else { memory };
        let cgroup = make_cgroup(&mut claim, &config.limits, confined, config.cgroup_parent.as_deref())?;
        let mut starting = Starting {
            source,
            claim: &mut claim,
            cgroup,
            network: config.network.as_ref().map(|network| &network.namespace),
            hostname: &config.hostname,
            file_server: None,
            wants_shares: config.shares,
            timeline,
        };
        let Started { vmm, guest, incoming, learning } = match &config.from {
            Some(files) => starting.go_on_from(files).await?,
            None => starting.start(&Templates::of(state)).await?,
        };

        let shares = starting.shares().await?;
        let broker = Broker::serve(claim.directory(), vmm.handle().clone()).map_err(LaunchError::Broker)?;
        Ok(Self {
            broker,
            vmm,
            claim,
            guest,
            rootfs,
            scratch: scratch.map(Arc::new),
            disks_added: AtomicU64::new(0),
            extent: Mutex::new(Extent::launched_with(memory)),
            processors: Mutex::new(Processors::of(shape)),
            shares: Mutex::new(shares),
            network: Mutex::new(Network::of(config.network, config.vcpus, incoming)),
            learning: std::sync::Mutex::new(learning),
            timeline: timeline.clone(),
        })
    }
}

/// What a start needs, as often as it is tried.
struct Starting<'a> {
    source: Source<'a>,
    claim: &'a mut Claim,
    cgroup: Option<Plan>,
    /// That of the VMM; `None`: this process's.
    network: Option<&'a NetworkNamespace>,
    hostname: &'a str,
    /// As it starts, of a sandbox that `wants_shares`.
    file_server: Option<JoinHandle<io::Result<FileServer>>>,
    wants_shares: bool,
    timeline: &'a Timeline,
}

/// A VM, and its guest that is this sandbox's.
struct Started {
    vmm: Vmm,
    guest: Guest,
    /// What the guest opens from here on.
    incoming: mpsc::Receiver<Incoming>,
    /// Of a template whose starts nobody has seen yet.
    learning: Option<Learning>,
}

impl Starting<'_> {
    async fn start(&mut self, templates: &Templates) -> Result<Started, LaunchError> {
        if let Some((key, template)) = template::find_or_make(templates, &self.source, self.timeline).await {
            let learning = template.working_set.learning();
            let start = self.source.clone_template(template)?;
            match self.begin(start).await {
                Ok(started) => return Ok(Started { learning, ..started }),
                // A host with too much to do says nothing of the template, and without it each start would take longer yet.
                Err(LaunchError::TooLong { .. }) => {}
                // Whatever was wrong with it: the next start makes another one. It may be gone already.
                Err(_) => drop(templates.remove(&key)),
            }
            self.timeline.mark("template given up");
        }
        self.begin(self.source.launch()?).await
    }

    async fn go_on_from(&mut self, files: &SnapshotFiles) -> Result<Started, LaunchError> {
        let saved = SavedFiles { state: open(&files.state())?, memory: open(&files.memory())? };
        self.begin(self.source.go_on_from(saved)?).await
    }

    /// Runs a VMM, up to an agent that is this sandbox's.
    async fn begin(&mut self, start: Start) -> Result<Started, LaunchError> {
        let (vmm, incoming) = self.spawn()?;
        self.timeline.mark("VMM spawned");
        self.start_file_server()?;
        let (begun, incoming) = boot::boot(vmm.handle(), start, incoming, self.timeline).await?;
        let guest = boot::adopt(vmm.handle(), begun, self.hostname, self.timeline).await?;
        Ok(Started { vmm, guest, incoming, learning: None })
    }

    /// Starts the VMM, within its limits from the first, and lets the record know it.
    fn spawn(&mut self) -> Result<(Vmm, mpsc::Receiver<Incoming>), LaunchError> {
        let program = &self.source.installation.vmm;
        let failed = |source| LaunchError::Spawn { program: program.clone(), source };
        let cgroup = self.cgroup.as_ref().map(Plan::open).transpose()?;
        let spawn = || Vmm::spawn(program, cgroup.as_ref().map(AsFd::as_fd));
        let (vmm, incoming) = match self.network {
            Some(network) => network.spawn_in(spawn)?,
            None => spawn(),
        }
        .map_err(failed)?;
        let id = ProcessId::of(vmm.pid()).map_err(failed)?;
        self.claim.update(|record| record.vmm = Some(id))?;
        Ok((vmm, incoming))
    }

    /// While the VM comes to life, which takes longer. A start that is tried again goes on with the one there is.
    fn start_file_server(&mut self) -> Result<(), LaunchError> {
        if self.wants_shares && self.file_server.is_none() {
            let program = self.source.installation.file_server.clone();
            let cgroup = self.cgroup.as_ref().map(Plan::open).transpose()?;
            let spawn = move || FileServer::spawn(&program, cgroup.as_ref().map(AsFd::as_fd));
            self.file_server = Some(tokio::task::spawn_blocking(spawn));
        }
        Ok(())
    }

    async fn shares(&mut self) -> Result<Option<Shares>, LaunchError> {
        let Some(starting) = self.file_server.take() else { return Ok(None) };
        let program = self.source.installation.file_server.clone();
        let failed = |source| LaunchError::Spawn { program, source };
        let spawned = async {
            let server = starting.await.map_err(io::Error::other)??;
            Ok((ProcessId::of(server.pid())?, server))
        };
        let (id, server) = spawned.await.map_err(failed)?;
        self.claim.update(|record| record.file_server = Some(id))?;
        Ok(Some(Shares::of(server)))
    }
}

/// The record knows of it before it is there.
fn make_cgroup(
    claim: &mut Claim,
    limits: &HostLimits,
    memory: u64,
    parent: Option<&Path>,
) -> Result<Option<Plan>, LaunchError> {
    let cgroup = Plan::new(limits, &claim.record().id, memory, parent)?;
    if let Some(cgroup) = &cgroup {
        claim.update(|record| record.cgroup = Some(cgroup.path().to_owned()))?;
        cgroup.make()?;
    }
    Ok(cgroup)
}

fn open(path: &Path) -> Result<File, LaunchError> {
    File::open(path).map_err(|source| LaunchError::Open { path: path.to_owned(), source })
}

fn open_kvm(path: &Path) -> Result<File, LaunchError> {
    let kvm = OpenOptions::new().read(true).write(true).open(path);
    kvm.map_err(|source| LaunchError::Kvm { path: path.to_owned(), source })
}
