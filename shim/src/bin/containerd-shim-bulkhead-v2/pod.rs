//! Tasks' pods, as the library's: sandboxes on this host.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use async_trait::async_trait;
use containerd_shim_protos::types::mount::Mount;
use oci_spec::runtime::{LinuxResources, Process as ProcessSpec};
use sandbox::{Exit, FsMount, GuestError, GuestStats, Stdio, Streams, TerminalSize, Timeline};
use shim::{Bundle, Container, ErrorKind, Host, Membership, Pod, PodError, PodId};
use tokio::sync::{RwLock, RwLockReadGuard, watch};
use ttrpc::Code;

use crate::backend::{ContainerBackend, Launch, NewContainer, PodBackend, ProcessBackend};
use crate::failure::Failure;
use crate::log;
use crate::stand_in::StandIn;

/// Launches the pods of one of containerd's namespaces.
pub(crate) struct Pods {
    namespace: String,
}

#[derive(Clone)]
struct Running(Arc<RunningPod>);

struct RunningPod {
    pid: u32,
    /// `None` once it is stopped.
    pod: RwLock<Option<Pod>>,
    /// How readily the host's kernel ends the VM for want of memory: the highest any container asks for.
    oom_score: AtomicI32,
    stopping: watch::Sender<bool>,
    over: watch::Receiver<bool>,
}

struct PodContainer {
    pod: Running,
    process: PodProcess,
    /// Of a pod's container beside its keeper.
    stand_in: Option<StandIn>,
    /// `None` once it is removed.
    container: RwLock<Option<Container>>,
}

#[derive(Clone)]
struct PodProcess(sandbox::Process);

impl Pods {
    pub(crate) fn of(namespace: String) -> Self {
        Self { namespace }
    }
}

#[async_trait]
impl Launch for Pods {
    async fn launch(&self, id: &str, bundle: &Bundle) -> Result<Arc<dyn PodBackend>, Failure> {
        let host = Host::find().map_err(failure)?;
        let id = PodId { namespace: self.namespace.clone(), id: id.to_owned() };
        let timeline = Timeline::default();
        let pod = Pod::launch(&host, &id, bundle, &timeline).await.map_err(failure)?;
        for stamp in timeline.stamps() {
            log::debug(format_args!("{}: {} ns", stamp.step, stamp.at));
        }
        Ok(Arc::new(Running::new(pod)))
    }
}

impl Running {
    fn new(pod: Pod) -> Self {
        let (ended, over) = watch::channel(false);
        let (pid, end) = (pod.pid(), pod.ended());
        let stopping = watch::Sender::new(false);
        let expected = stopping.subscribe();
        let (pod, oom_score) = (RwLock::new(Some(pod)), AtomicI32::new(i32::MIN));
        let running = Arc::new(RunningPod { pid, pod, oom_score, stopping, over });
        let left = Arc::downgrade(&running);
        tokio::spawn(async move {
            let end = end.await;
            if !*expected.borrow() {
                log::error(format_args!("the pod's VM ended: {end}"));
            }
            ended.send_replace(true);
            // A VMM that told its VM's end holds the processes' streams open until it goes, and so the processes' ends back.
            if let Some(pod) = left.upgrade() {
                Self(pod).stop().await;
            }
        });
        Self(running)
    }

    /// The VMM has its shim's score, which is next to containerd's own: among the last to be ended.
    fn raise_oom_score(&self, bundle: &Bundle) {
        let process = bundle.spec.process().as_ref();
        let score = process.and_then(|process| process.oom_score_adj()).unwrap_or_default();
        if self.0.oom_score.fetch_max(score, Ordering::Relaxed) < score {
            let written = std::fs::write(format!("/proc/{}/oom_score_adj", self.0.pid), score.to_string());
            if let Err(error) = written {
                log::error(format_args!("cannot set the VM's OOM score: {error}"));
            }
        }
    }

    /// Does what takes the pod, which does not wait for it when it is stopped.
    async fn unless_stopped<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let mut stopping = self.0.stopping.subscribe();
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => Err(stopped()),
            done = work => done,
        }
    }
}

#[async_trait]
impl PodBackend for Running {
    fn pid(&self) -> u32 {
        self.0.pid
    }

    async fn create(&self, new: NewContainer) -> Result<(Arc<dyn ContainerBackend>, Streams), Failure> {
        let NewContainer { id, bundle, rootfs, stdio, shared_pids } = new;
        let stand_in = match Membership::of(&bundle) {
            Membership::Member { .. } => Some(StandIn::in_network_of(self.0.pid).await.map_err(no_stand_in)?),
            Membership::Alone | Membership::Sandbox => None,
        };
        self.raise_oom_score(&bundle);
        let rootfs = rootfs.into_iter().map(mount).collect::<Result<Vec<_>, _>>()?;
        let (container, streams) = self
            .unless_stopped(async {
                let pod = self.0.pod.read().await;
                let pod = pod.as_ref().ok_or_else(stopped)?;
                pod.create(&id, &bundle, &rootfs, stdio, shared_pids).await.map_err(failure)
            })
            .await?;
        let process = PodProcess(container.process().clone());
        let (pod, container) = (self.clone(), RwLock::new(Some(container)));
        let container = PodContainer { pod, process, stand_in, container };
        Ok((Arc::new(container), streams))
    }

    async fn ended(&self) {
        // Without a sender, it is over as well.
        let _ = self.0.over.clone().wait_for(|over| *over).await;
    }

    async fn stop(&self) {
        self.0.stopping.send_replace(true);
        if let Some(pod) = self.0.pod.write().await.take() {
            pod.stop().await;
        }
    }
}

impl PodContainer {
    /// While neither is gone.
    async fn both(&self) -> Result<(RwLockReadGuard<'_, Pod>, RwLockReadGuard<'_, Container>), Failure> {
        let (pod, container) = (self.pod.0.pod.read().await, self.container.read().await);
        let pod = RwLockReadGuard::try_map(pod, Option::as_ref).map_err(|_| stopped())?;
        let container = RwLockReadGuard::try_map(container, Option::as_ref).map_err(|_| removed())?;
        Ok((pod, container))
    }
}

#[async_trait]
impl ContainerBackend for PodContainer {
    fn pid(&self) -> u32 {
        self.stand_in.as_ref().map_or(self.pod.0.pid, StandIn::pid)
    }

    fn process(&self) -> Arc<dyn ProcessBackend> {
        Arc::new(self.process.clone())
    }

    async fn start(&self) -> Result<(), Failure> {
        self.pod
            .unless_stopped(async {
                let (pod, container) = self.both().await?;
                pod.start(&container).await.map_err(failure)?;
                if let Err(error) = pod.forward_ports().await {
                    log::error(format_args!("the pod's ports are not forwarded: {}", shim::describe(&error)));
                }
                Ok(())
            })
            .await
    }

    async fn exec(
        &self,
        exec_id: &str,
        process: ProcessSpec,
        stdio: Stdio,
    ) -> Result<(Arc<dyn ProcessBackend>, Streams), Failure> {
        let container = self.container.read().await;
        let container = container.as_ref().ok_or_else(removed)?;
        let (process, streams) = container.exec(exec_id, process, stdio).await.map_err(failure)?;
        Ok((Arc::new(PodProcess(process)), streams))
    }

    async fn pause(&self) -> Result<(), Failure> {
        let container = self.container.read().await;
        container.as_ref().ok_or_else(removed)?.pause().await.map_err(failure)
    }

    async fn resume(&self) -> Result<(), Failure> {
        let container = self.container.read().await;
        container.as_ref().ok_or_else(removed)?.resume().await.map_err(failure)
    }

    async fn stats(&self) -> Result<GuestStats, Failure> {
        let container = self.container.read().await;
        container.as_ref().ok_or_else(removed)?.stats().await.map_err(failure)
    }

    async fn update(&self, resources: LinuxResources) -> Result<(), Failure> {
        self.pod
            .unless_stopped(async {
                let (pod, container) = self.both().await?;
                pod.update(&container, resources).await.map_err(failure)
            })
            .await
    }

    async fn give_back_disks(&self) -> Result<(), Failure> {
        let has_disks = self.container.read().await.as_ref().is_some_and(Container::has_disks);
        // With nothing to run and no files, there is nothing of it that anybody could ask for.
        if has_disks { self.remove().await } else { Ok(()) }
    }

    async fn remove(&self) -> Result<(), Failure> {
        let Some(container) = self.container.write().await.take() else { return Ok(()) };
        let pod = self.pod.0.pod.read().await;
        // With its VM, all of it is gone.
        let Some(pod) = pod.as_ref() else { return Ok(()) };
        match self.pod.unless_stopped(async { pod.remove(container).await.map_err(failure) }).await {
            Err(failure) if failure.code == Code::UNAVAILABLE => Ok(()),
            removed => removed,
        }
    }
}

#[async_trait]
impl ProcessBackend for PodProcess {
    async fn wait(&self) -> Option<Exit> {
        match self.0.wait().await {
            Ok(exit) => Some(exit),
            Err(GuestError::Ended(_)) => None,
            Err(error) => {
                log::error(format_args!("a process cannot be waited for: {error}"));
                None
            }
        }
    }

    async fn signal(&self, signal: u32) -> Result<(), Failure> {
        self.0.signal(signal).await.map_err(guest_failure)
    }

    async fn signal_all(&self, signal: u32) -> Result<(), Failure> {
        self.0.signal_all(signal).await.map_err(guest_failure)
    }

    async fn resize(&self, size: TerminalSize) -> Result<(), Failure> {
        self.0.resize(size).await.map_err(guest_failure)
    }
}

fn mount(mount: Mount) -> Result<FsMount, Failure> {
    if !mount.target.is_empty() {
        return Err(Failure::invalid(format!(
            "rootfs: a mount at {:?} below it is not supported",
            mount.target
        )));
    }
    Ok(FsMount { kind: mount.type_, source: mount.source, options: mount.options })
}

fn guest_failure(error: GuestError) -> Failure {
    failure(error.into())
}

fn failure(error: PodError) -> Failure {
    let code = match error.kind() {
        ErrorKind::NotFound => Code::NOT_FOUND,
        ErrorKind::AlreadyExists => Code::ALREADY_EXISTS,
        ErrorKind::InvalidArgument => Code::INVALID_ARGUMENT,
        ErrorKind::FailedPrecondition => Code::FAILED_PRECONDITION,
        ErrorKind::Unavailable => Code::UNAVAILABLE,
        ErrorKind::Unimplemented => Code::UNIMPLEMENTED,
        ErrorKind::Internal => Code::INTERNAL,
    };
    Failure::of(code, &error)
}

fn no_stand_in(error: io::Error) -> Failure {
    Failure::internal(format!("cannot stand in for the container's process: {error}"))
}

fn stopped() -> Failure {
    Failure::new(Code::UNAVAILABLE, "the pod's VM has ended")
}

fn removed() -> Failure {
    Failure::not_found("container not created")
}
