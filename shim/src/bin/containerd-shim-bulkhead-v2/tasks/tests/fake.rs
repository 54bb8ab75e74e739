//! Pods that are no sandboxes: what happens in them is what a test says.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use oci_spec::runtime::{LinuxResources, Process as ProcessSpec};
use sandbox::{Exit, GuestStats, SharedPids, Streams, TerminalSize};
use shim::{Bundle, Membership};
use tokio::sync::watch;

use crate::backend::{ContainerBackend, Launch, NewContainer, PodBackend, ProcessBackend};
use crate::failure::Failure;

/// What clients are told is the process of a container that is alone, or keeps a pod.
pub(super) const PID: u32 = 4711;

/// The same of a pod's containers: as many more as there were containers before.
pub(super) const FIRST_MEMBERS_PID: u32 = 5000;

/// What all of a test's fakes write to and look at.
#[derive(Default)]
pub(super) struct World {
    pub(super) launched: AtomicUsize,
    pub(super) stopped: AtomicUsize,
    pub(super) removed: Mutex<Vec<String>>,
    /// While it does, no disk is given back.
    pub(super) holds_disks: watch::Sender<bool>,
    /// By container id, and exec id behind a slash.
    processes: Mutex<BTreeMap<String, FakeProcess>>,
    /// With whom containers are to share processes, by container id.
    pub(super) shared_pids: Mutex<BTreeMap<String, Option<SharedPids>>>,
    pub(super) vm_gone: watch::Sender<bool>,
    pub(super) refuses_start: Mutex<Option<Failure>>,
}

#[derive(Clone)]
pub(super) struct Fake(pub(super) Arc<World>);

struct FakeContainer {
    world: Arc<World>,
    id: String,
    pid: u32,
}

#[derive(Clone)]
pub(super) struct FakeProcess {
    pub(super) exit: Arc<watch::Sender<Option<Exit>>>,
    gone: watch::Receiver<bool>,
    pub(super) signals: Arc<Mutex<Vec<(u32, bool)>>>,
}

impl World {
    pub(super) fn process(&self, name: &str) -> FakeProcess {
        self.processes.lock().unwrap().get(name).cloned().unwrap()
    }

    fn make(self: &Arc<Self>, name: String) -> Arc<dyn ProcessBackend> {
        let process = FakeProcess {
            exit: Arc::new(watch::Sender::new(None)),
            gone: self.vm_gone.subscribe(),
            signals: Arc::default(),
        };
        self.processes.lock().unwrap().insert(name, process.clone());
        Arc::new(process)
    }

    pub(super) fn counts(&self) -> (usize, usize) {
        (self.launched.load(Ordering::Relaxed), self.stopped.load(Ordering::Relaxed))
    }
}

impl FakeProcess {
    fn take(&self, signal: u32, all: bool) -> Result<(), Failure> {
        if *self.gone.borrow() {
            return Err(Failure::new(ttrpc::Code::UNAVAILABLE, "the VM has ended"));
        }
        self.signals.lock().unwrap().push((signal, all));
        Ok(())
    }

    pub(super) fn exits(&self, code: u8) {
        self.exit.send_replace(Some(Exit { code, out_of_memory: false }));
    }
}

#[async_trait]
impl Launch for Fake {
    async fn launch(&self, _: &str, _: &Bundle) -> Result<Arc<dyn PodBackend>, Failure> {
        self.0.launched.fetch_add(1, Ordering::Relaxed);
        self.0.vm_gone.send_replace(false);
        Ok(Arc::new(self.clone()))
    }
}

#[async_trait]
impl PodBackend for Fake {
    fn pid(&self) -> u32 {
        PID
    }

    async fn create(&self, new: NewContainer) -> Result<(Arc<dyn ContainerBackend>, Streams), Failure> {
        if new.id == "refused" {
            return Err(Failure::invalid("no such thing"));
        }
        self.0.make(new.id.clone());
        let mut shared_pids = self.0.shared_pids.lock().unwrap();
        let pid = match Membership::of(&new.bundle) {
            Membership::Member { .. } => FIRST_MEMBERS_PID + u32::try_from(shared_pids.len()).unwrap(),
            Membership::Alone | Membership::Sandbox => PID,
        };
        shared_pids.insert(new.id.clone(), new.shared_pids);
        Ok((Arc::new(FakeContainer { world: self.0.clone(), id: new.id, pid }), Streams::default()))
    }

    async fn ended(&self) {
        let _ = self.0.vm_gone.subscribe().wait_for(|gone| *gone).await;
    }

    async fn stop(&self) {
        self.0.stopped.fetch_add(1, Ordering::Relaxed);
        self.0.vm_gone.send_replace(true);
    }
}

#[async_trait]
impl ContainerBackend for FakeContainer {
    fn pid(&self) -> u32 {
        self.pid
    }

    fn process(&self) -> Arc<dyn ProcessBackend> {
        Arc::new(self.world.process(&self.id))
    }

    async fn start(&self) -> Result<(), Failure> {
        self.world.refuses_start.lock().unwrap().take().map_or(Ok(()), Err)
    }

    async fn exec(
        &self,
        exec_id: &str,
        _: ProcessSpec,
        _: sandbox::Stdio,
    ) -> Result<(Arc<dyn ProcessBackend>, Streams), Failure> {
        self.start().await?;
        Ok((self.world.make(format!("{}/{exec_id}", self.id)), Streams::default()))
    }

    async fn pause(&self) -> Result<(), Failure> {
        Ok(())
    }

    async fn resume(&self) -> Result<(), Failure> {
        Ok(())
    }

    async fn stats(&self) -> Result<GuestStats, Failure> {
        Ok(GuestStats::default())
    }

    async fn update(&self, _: LinuxResources) -> Result<(), Failure> {
        Ok(())
    }

    async fn give_back_disks(&self) -> Result<(), Failure> {
        let _ = self.world.holds_disks.subscribe().wait_for(|holds| !holds).await;
        Ok(())
    }

    async fn remove(&self) -> Result<(), Failure> {
        self.world.removed.lock().unwrap().push(self.id.clone());
        Ok(())
    }
}

#[async_trait]
impl ProcessBackend for FakeProcess {
    async fn wait(&self) -> Option<Exit> {
        let (mut exit, mut gone) = (self.exit.subscribe(), self.gone.clone());
        tokio::select! {
            biased;
            exit = exit.wait_for(Option::is_some) => *exit.unwrap(),
            _ = gone.wait_for(|gone| *gone) => None,
        }
    }

    async fn signal(&self, signal: u32) -> Result<(), Failure> {
        self.take(signal, false)
    }

    async fn signal_all(&self, signal: u32) -> Result<(), Failure> {
        self.take(signal, true)
    }

    async fn resize(&self, _: TerminalSize) -> Result<(), Failure> {
        Ok(())
    }
}
