//! A cold start, step by step: from a description to an agent that has adopted its identity.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent_api::ports;
use async_trait::async_trait;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use vmm_api::{Launch, Reply, Request};

use crate::broker::Broker;
use crate::cgroup::{HostLimits, LimitError, Plan};
use crate::config::SandboxConfig;
use crate::disks::{self, Descriptors};
use crate::ended::Ended;
use crate::events::{EventError, EventStream, Events};
use crate::guest::{Dialer, END_GRACE, Guest, GuestError};
use crate::installation::Installation;
use crate::kernel_arguments::command_line;
use crate::memory::{MemoryError, vm_memory};
use crate::process_id::ProcessId;
use crate::record::{Claim, RecordError, StateDir};
use crate::sandbox::Sandbox;
use crate::scratch::ScratchError;
use crate::timeline::Timeline;
use crate::vmm::{self, Incoming, Vmm, VmmError, VmmHandle};

/// How long a guest may take until its agent is ready. Slow machines need a tenth of it.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// What a start was at when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaunchPhase {
    /// The VMM sets up the VM.
    Vm,
    /// The guest's kernel boots, up to its agent.
    Boot,
    /// The agent takes on its identity.
    Adopt,
}

#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("cannot open {} (`bulkhead doctor` says what this machine lacks)", .path.display())]
    Kvm { path: PathBuf, source: io::Error },
    #[error("cannot open {}", .path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    #[error(transparent)]
    Limits(#[from] LimitError),
    #[error("cannot run {}", .program.display())]
    Spawn { program: PathBuf, source: io::Error },
    #[error("the VM ended while {phase}: {ended}")]
    Ended { phase: LaunchPhase, ended: Arc<Ended> },
    #[error("{phase} failed")]
    Vmm { phase: LaunchPhase, source: VmmError },
    #[error("{phase} failed")]
    Events { phase: LaunchPhase, source: EventError },
    #[error("{phase} failed")]
    Agent { phase: LaunchPhase, source: GuestError },
    #[error("{phase} took more than {} s\n--- last lines of the guest console ---\n{console}", BOOT_LIMIT.as_secs())]
    TooLong { phase: LaunchPhase, console: String },
    #[error("cannot serve other commands of this sandbox")]
    Broker(#[source] io::Error),
}

impl Sandbox {
    /// Starts a sandbox; dropped before it is done, it leaves nothing behind.
    pub async fn launch(
        installation: &Installation,
        state: &StateDir,
        config: SandboxConfig,
        timeline: &Timeline,
    ) -> Result<Self, LaunchError> {
        let memory = vm_memory(config.memory_limit)?;
        let mut claim = state.claim(config.label)?;
        timeline.mark("record written");

        let mut descriptors = Descriptors::default();
        let (disks, rootfs) = disks::describe(
            config.image,
            installation.image_device,
            memory,
            config.scratch.as_ref(),
            &mut descriptors,
        )?;
        let launch = Launch {
            kvm: descriptors.add(open_kvm(&installation.kvm)?),
            kernel: descriptors.add(open(&installation.kernel)?),
            initramfs: descriptors.add(open(&installation.initramfs)?),
            command_line: command_line(&installation.kernel_arguments),
            vcpus: config.vcpus,
            memory,
            disks,
            identity: claim.record().identity,
        };
        timeline.mark("descriptors opened");

        let (vmm, incoming) = spawn(installation, &mut claim, &config.limits, memory)?;
        timeline.mark("VMM spawned");

        let events = boot(vmm.handle(), launch, descriptors, incoming, timeline).await?;
        let guest = adopt(vmm.handle(), events, &config.hostname, timeline).await?;

        let broker = Broker::serve(claim.directory(), vmm.handle().clone()).map_err(LaunchError::Broker)?;
        Ok(Self { broker, vmm, claim, guest, rootfs, timeline: timeline.clone() })
    }
}

/// Starts the VMM, and lets the record know it. It is within its limits before it gets its VM.
fn spawn(
    installation: &Installation,
    claim: &mut Claim,
    limits: &HostLimits,
    memory: u64,
) -> Result<(Vmm, mpsc::Receiver<Incoming>), LaunchError> {
    let failed = |source| LaunchError::Spawn { program: installation.vmm.clone(), source };
    let cgroup = Plan::new(limits, &claim.record().id, memory)?;
    if let Some(cgroup) = &cgroup {
        claim.update(|record| record.cgroup = Some(cgroup.path().to_owned()))?;
        cgroup.make()?;
    }
    let (vmm, incoming) = Vmm::spawn(&installation.vmm).map_err(failed)?;
    let id = ProcessId::of(vmm.pid()).map_err(failed)?;
    claim.update(|record| record.vmm = Some(id))?;
    if let Some(cgroup) = &cgroup {
        cgroup.take_in(vmm.pid())?;
    }
    Ok((vmm, incoming))
}

/// Has the VMM start the VM, and waits until the agent in it opens its event stream.
async fn boot(
    vmm: &VmmHandle,
    launch: Launch,
    descriptors: Descriptors,
    mut incoming: mpsc::Receiver<Incoming>,
    timeline: &Timeline,
) -> Result<EventStream, LaunchError> {
    let launching = vmm.call(Request::Launch(launch), descriptors.passed);
    // Asked for at once, so that it is in force before the guest can connect.
    let ((launched, _), ()) = tokio::try_join!(launching, vmm.listen(ports::EVENT_PORT))
        .map_err(|error| failed(LaunchPhase::Vm, error))?;
    if let Reply::Launched { stamps } = launched {
        stamps.into_iter().for_each(|stamp| timeline.add(stamp));
    }
    timeline.mark("VM running");

    let connected = async {
        match incoming.recv().await {
            Some(Incoming { port: ports::EVENT_PORT, stream }) => {
                vmm::stream(stream).map_err(|error| failed(LaunchPhase::Boot, VmmError::Stream(error)))
            }
            Some(_) => Err(failed(LaunchPhase::Boot, VmmError::WrongReply)),
            None => Err(failed(LaunchPhase::Boot, VmmError::Ended(vmm.ended().await))),
        }
    };
    let stream = within_limit(vmm, LaunchPhase::Boot, connected).await?;
    timeline.mark("agent connected");
    Ok(EventStream::new(stream))
}

/// Connects to the agent, and makes its guest this sandbox's.
async fn adopt(
    vmm: &VmmHandle,
    mut events: EventStream,
    hostname: &str,
    timeline: &Timeline,
) -> Result<Guest, LaunchError> {
    let exits = Events::default();
    let dialer = Arc::new(VmmDialer { vmm: vmm.clone() });
    let adopting = async {
        let ready = async {
            events.ready().await.map_err(|source| LaunchError::Events { phase: LaunchPhase::Adopt, source })
        };
        // The agent serves before it opens its event stream: no need to wait for the stream's first word.
        let connect = async { Guest::connect(dialer, Some(exits.clone())).await.map_err(agent_failed) };
        let ((), guest) = tokio::try_join!(ready, connect)?;
        timeline.mark("agent ready");
        guest.adopt(hostname).await.map_err(agent_failed)?;
        Ok(guest)
    };
    let guest = within_limit(vmm, LaunchPhase::Adopt, adopting).await?;
    timeline.mark("identity adopted");
    // Ends with the stream, and that with the VM.
    tokio::spawn(exits.follow(events));
    Ok(guest)
}

/// The step's result; an error when it fails, the VM ends, or nothing happens for too long.
async fn within_limit<T>(
    vmm: &VmmHandle,
    phase: LaunchPhase,
    step: impl Future<Output = Result<T, LaunchError>>,
) -> Result<T, LaunchError> {
    let error = tokio::select! {
        biased;
        done = step => match done {
            Ok(result) => return Ok(result),
            Err(error) => error,
        },
        ended = vmm.ended() => return Err(LaunchError::Ended { phase, ended }),
        () = tokio::time::sleep(BOOT_LIMIT) => {
            let console = vmm.console().await.unwrap_or_default();
            return Err(LaunchError::TooLong { phase, console });
        }
    };
    // A guest that ends breaks its connections first; its end is the better reason.
    match tokio::time::timeout(END_GRACE, vmm.ended()).await {
        Ok(ended) => Err(LaunchError::Ended { phase, ended }),
        Err(_) => Err(error),
    }
}

/// The supervisor's own way to the guest.
struct VmmDialer {
    vmm: VmmHandle,
}

#[async_trait]
impl Dialer for VmmDialer {
    async fn dial(&self, port: u32) -> Result<UnixStream, GuestError> {
        match self.vmm.connect(port).await {
            Ok(stream) => {
                vmm::stream(stream).map_err(|error| GuestError::Dial { port, source: error.into() })
            }
            Err(VmmError::Ended(ended)) => Err(GuestError::Ended(ended)),
            Err(error) => Err(GuestError::Dial { port, source: error.into() }),
        }
    }

    async fn ended(&self) -> GuestError {
        GuestError::Ended(self.vmm.ended().await)
    }
}

fn failed(phase: LaunchPhase, error: VmmError) -> LaunchError {
    match error {
        VmmError::Ended(ended) => LaunchError::Ended { phase, ended },
        source => LaunchError::Vmm { phase, source },
    }
}

fn agent_failed(error: GuestError) -> LaunchError {
    let phase = LaunchPhase::Adopt;
    match error {
        GuestError::Ended(ended) => LaunchError::Ended { phase, ended },
        source => LaunchError::Agent { phase, source },
    }
}

fn open(path: &Path) -> Result<File, LaunchError> {
    File::open(path).map_err(|source| LaunchError::Open { path: path.to_owned(), source })
}

fn open_kvm(path: &Path) -> Result<File, LaunchError> {
    let kvm = OpenOptions::new().read(true).write(true).open(path);
    kvm.map_err(|source| LaunchError::Kvm { path: path.to_owned(), source })
}

impl fmt::Display for LaunchPhase {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Vm => "setting up the VM",
            Self::Boot => "booting the guest",
            Self::Adopt => "giving the guest its identity",
        })
    }
}
