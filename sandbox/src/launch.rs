//! A start, step by step: from a description to an agent that has adopted its identity.
//!
//! Warm, where there is a template for the machine's shape or one can be made: a saved VM goes on, with this sandbox's
//! disks. Cold otherwise, and where a template turns out to be of no use. Or from a copy of another sandbox's VM.

mod boot;
mod error;
mod source;
mod template;

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::mpsc;

use crate::broker::Broker;
use crate::cgroup::{HostLimits, Plan};
use crate::config::SandboxConfig;
use crate::disks::{self, Descriptors};
use crate::guest::Guest;
use crate::installation::Installation;
use crate::memory::vm_memory;
use crate::process_id::ProcessId;
use crate::record::{Claim, StateDir};
use crate::sandbox::Sandbox;
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
        let shape = Shape { vcpus: config.vcpus, memory };
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

        let cgroup = make_cgroup(&mut claim, &config.limits, memory)?;
        let mut starting =
            Starting { source, claim: &mut claim, cgroup, hostname: &config.hostname, timeline };
        let Started { vmm, guest, learning } = match &config.from {
            Some(files) => starting.go_on_from(files).await?,
            None => starting.start(&Templates::of(state)).await?,
        };

        let broker = Broker::serve(claim.directory(), vmm.handle().clone()).map_err(LaunchError::Broker)?;
        Ok(Self {
            broker,
            vmm,
            claim,
            guest,
            rootfs,
            scratch: scratch.map(Arc::new),
            disks_added: AtomicU64::new(0),
            shares: None,
            learning,
            timeline: timeline.clone(),
        })
    }
}

/// What a start needs, as often as it is tried.
struct Starting<'a> {
    source: Source<'a>,
    claim: &'a mut Claim,
    cgroup: Option<Plan>,
    hostname: &'a str,
    timeline: &'a Timeline,
}

/// A VM, and its guest that is this sandbox's.
struct Started {
    vmm: Vmm,
    guest: Guest,
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
        let begun = boot::boot(vmm.handle(), start, incoming, self.timeline).await?;
        let guest = boot::adopt(vmm.handle(), begun, self.hostname, self.timeline).await?;
        Ok(Started { vmm, guest, learning: None })
    }

    /// Starts the VMM, within its limits from the first, and lets the record know it.
    fn spawn(&mut self) -> Result<(Vmm, mpsc::Receiver<Incoming>), LaunchError> {
        let program = &self.source.installation.vmm;
        let failed = |source| LaunchError::Spawn { program: program.clone(), source };
        let cgroup = self.cgroup.as_ref().map(Plan::open).transpose()?;
        let (vmm, incoming) = Vmm::spawn(program, cgroup.as_ref().map(AsFd::as_fd)).map_err(failed)?;
        let id = ProcessId::of(vmm.pid()).map_err(failed)?;
        self.claim.update(|record| record.vmm = Some(id))?;
        Ok((vmm, incoming))
    }
}

/// The record knows of it before it is there.
fn make_cgroup(claim: &mut Claim, limits: &HostLimits, memory: u64) -> Result<Option<Plan>, LaunchError> {
    let cgroup = Plan::new(limits, &claim.record().id, memory)?;
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
