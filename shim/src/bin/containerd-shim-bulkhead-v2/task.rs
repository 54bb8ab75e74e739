//! A task: a container as containerd knows it, from its creation to its deletion, with what is executed in it.
//!
//! What may be done in which state, and the words for what may not, are those of containerd's shim for runc
//! (cmd/containerd-shim-runc-v2/process/init_state.go and exec_state.go). Where that one answers with an error of no code,
//! this one says FAILED_PRECONDITION.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use containerd_shim_protos::events::task::{
    TaskExecAdded, TaskExecStarted, TaskExit, TaskOOM, TaskPaused, TaskResumed, TaskStart,
};
use containerd_shim_protos::types::task::Status;
use oci_spec::runtime::{LinuxResources, Process as ProcessSpec};
use protobuf::MessageField;
use sandbox::{Exit, GuestStats, TerminalSize};

use crate::backend::ContainerBackend;
use crate::events::Events;
use crate::failure::Failure;
use crate::hooks::Hooks;
use crate::log;
use crate::process::{Exited, Process, State};
use crate::stdio::{Owner, Stdio};
use crate::timestamp::timestamp;

const SIGKILL: u32 = 9;

/// A container's own process that was deleted before it was started.
const NEVER_STARTED: u8 = 137;

/// A process that could not be started.
const NOT_STARTED: u32 = 255;

pub(crate) struct Task {
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    /// What clients are told is the process's.
    pub(crate) pid: u32,
    pub(crate) own: Arc<Process>,
    container: Arc<dyn ContainerBackend>,
    pub(crate) hooks: Option<Hooks>,
    namespace: String,
    events: Events,
    execs: Mutex<BTreeMap<String, Exec>>,
    /// How many were executed in the guest, or were to be.
    executed: AtomicU64,
    /// Written while the container is started or ends, read while something is executed in it: of both, the start is told
    /// first and the end after it.
    course: tokio::sync::RwLock<()>,
    freezing: AtomicU8,
    /// Its own process has ended in the guest, which is told when all that was executed in it has.
    ending: AtomicBool,
    done_with_guest: AtomicBool,
}

/// A process that is executed, and what it is made of until then.
struct Exec {
    process: Arc<Process>,
    spec: Option<ProcessSpec>,
}

// What is in `freezing`.
const THAWED: u8 = 0;
const FREEZING: u8 = 1;
const FROZEN: u8 = 2;

pub(crate) struct NewTask {
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) pid: u32,
    pub(crate) own: Arc<Process>,
    pub(crate) container: Arc<dyn ContainerBackend>,
    pub(crate) hooks: Option<Hooks>,
    pub(crate) namespace: String,
}

impl Task {
    pub(crate) fn new(new: NewTask, events: Events) -> Self {
        let NewTask { id, bundle, pid, own, container, hooks, namespace } = new;
        Self {
            id,
            bundle,
            pid,
            own,
            container,
            hooks,
            namespace,
            events,
            execs: Mutex::default(),
            executed: AtomicU64::new(0),
            course: tokio::sync::RwLock::new(()),
            freezing: AtomicU8::new(THAWED),
            ending: AtomicBool::new(false),
            done_with_guest: AtomicBool::new(false),
        }
    }

    /// Waits for the end of its own process, and of all that was executed in it. `None`: it was deleted before.
    pub(crate) async fn ended(&self) -> Option<Exit> {
        let exit = tokio::select! {
            exit = self.own.ended() => exit,
            _ = self.own.stopped() => return None,
        };
        self.ending.store(true, Ordering::Release);
        drop(self.course.write().await);
        let execs = self.running_execs();
        if !execs.is_empty() {
            // Where it shares the pod's processes, one that was just being executed may outlive it. What cannot be killed any
            // more has ended.
            let _ = self.container.process().signal_all(SIGKILL).await;
        }
        for exec in execs {
            exec.stopped().await;
        }
        // Whoever learns of the end may look into them at once.
        if let Err(failure) = self.container.give_back_disks().await {
            log::error(format_args!("what {} wrote may not all be on its disks: {failure}", self.id));
        }
        self.done_with_guest.store(true, Ordering::Release);
        Some(exit)
    }

    /// Tells the end of its own process: its last word.
    pub(crate) async fn tell(&self, exit: Exit) {
        let _course = self.course.write().await;
        self.tell_exit("", &self.own, exit);
    }

    /// Whether nothing of it runs in the guest any more.
    pub(crate) fn is_done_with_guest(&self) -> bool {
        self.done_with_guest.load(Ordering::Acquire)
    }

    pub(crate) async fn start(&self) -> Result<u32, Failure> {
        let _course = self.course.write().await;
        match self.own.state() {
            State::Created => {}
            State::Running => return Err(Failure::precondition("cannot start a running process")),
            State::Stopped(_) => return Err(Failure::precondition("cannot start a stopped process")),
        }
        self.container.start().await?;
        self.own.set_running();
        if let Some(hooks) = &self.hooks {
            hooks.after_start().await;
        }
        let (container_id, pid) = (self.id.clone(), self.pid);
        self.events.publish(&TaskStart { container_id, pid, ..Default::default() });
        Ok(pid)
    }

    /// Takes in what is to be executed.
    pub(crate) fn exec(&self, exec_id: &str, spec: ProcessSpec, stdio: Stdio) -> Result<(), Failure> {
        match (self.own.state(), self.is_frozen()) {
            (State::Stopped(_), _) => return Err(Failure::precondition("cannot exec in a stopped state")),
            (_, true) => return Err(Failure::precondition("cannot exec in a paused state")),
            _ => {}
        }
        let size = first_size(Some(&spec));
        let process = Arc::new(Process::new(stdio, size));
        let mut execs = self.execs();
        if execs.contains_key(exec_id) {
            return Err(Failure::new(ttrpc::Code::ALREADY_EXISTS, format!("id {exec_id}")));
        }
        execs.insert(exec_id.to_owned(), Exec { process, spec: Some(spec) });
        drop(execs);
        self.events.publish(&TaskExecAdded {
            container_id: self.id.clone(),
            exec_id: exec_id.to_owned(),
            ..Default::default()
        });
        Ok(())
    }

    pub(crate) async fn start_exec(self: &Arc<Self>, exec_id: &str) -> Result<u32, Failure> {
        let process = self.process(exec_id)?;
        let _course = self.course.read().await;
        if self.ending.load(Ordering::Acquire) || self.own.exited().is_some() {
            return Err(Failure::precondition(format!("container {} init process is not running", self.id)));
        }
        let spec = self.execs().get_mut(exec_id).and_then(|exec| exec.spec.take());
        let Some(spec) = spec else {
            let state = if process.exited().is_some() { "stopped" } else { "running" };
            return Err(Failure::precondition(format!("cannot start a {state} process")));
        };
        if let Err(failure) = self.run_exec(exec_id, &process, spec).await {
            process.set_stopped(NOT_STARTED);
            return Err(failure);
        }
        process.set_running();
        self.events.publish(&TaskExecStarted {
            container_id: self.id.clone(),
            exec_id: exec_id.to_owned(),
            pid: self.pid,
            ..Default::default()
        });
        let (task, exec_id) = (self.clone(), exec_id.to_owned());
        tokio::spawn(async move {
            let exit = process.ended().await;
            task.tell_exit(&exec_id, &process, exit);
        });
        Ok(self.pid)
    }

    async fn run_exec(&self, exec_id: &str, process: &Process, spec: ProcessSpec) -> Result<(), Failure> {
        let (size, hold_stdin) = process.beginnings();
        let owner = Owner { namespace: &self.namespace, id: exec_id };
        let ends = process.stdio.open(owner, hold_stdin).await?;
        // A client may take the id of one it has deleted, whose end the guest still knows.
        let number = self.executed.fetch_add(1, Ordering::Relaxed);
        let id = format!("{exec_id}.{number}");
        let (backend, streams) = self.container.exec(&id, spec, process.stdio.wanted(size)).await?;
        process.made(backend, ends, streams);
        Ok(())
    }

    /// Its own process, or one that was executed.
    pub(crate) fn process(&self, exec_id: &str) -> Result<Arc<Process>, Failure> {
        if exec_id.is_empty() {
            return Ok(self.own.clone());
        }
        let found = self.execs().get(exec_id).map(|exec| exec.process.clone());
        found.ok_or_else(|| Failure::not_found(format!("process does not exist {exec_id}")))
    }

    pub(crate) fn status(&self, process: &Process) -> Status {
        match (self.freezing.load(Ordering::Acquire), process.status()) {
            (_, Status::STOPPED) => Status::STOPPED,
            (FREEZING, _) => Status::PAUSING,
            (FROZEN, _) => Status::PAUSED,
            (_, status) => status,
        }
    }

    pub(crate) async fn kill(&self, exec_id: &str, signal: u32, all: bool) -> Result<(), Failure> {
        self.process(exec_id)?.kill(signal, all && exec_id.is_empty()).await
    }

    pub(crate) async fn pause(&self) -> Result<(), Failure> {
        match self.status(&self.own) {
            Status::RUNNING => {}
            Status::CREATED => return Err(Failure::precondition("cannot pause task in created state")),
            Status::STOPPED => return Err(Failure::precondition("cannot pause a stopped container")),
            _ => return Err(already_paused()),
        }
        let begun = self.freezing.compare_exchange(THAWED, FREEZING, Ordering::AcqRel, Ordering::Acquire);
        begun.map_err(|_| already_paused())?;
        let paused = self.container.pause().await;
        self.freezing.store(if paused.is_ok() { FROZEN } else { THAWED }, Ordering::Release);
        paused?;
        self.events.publish(&TaskPaused { container_id: self.id.clone(), ..Default::default() });
        Ok(())
    }

    pub(crate) async fn resume(&self) -> Result<(), Failure> {
        match self.status(&self.own) {
            Status::PAUSED => {}
            Status::CREATED => return Err(Failure::precondition("cannot resume task in created state")),
            Status::STOPPED => return Err(Failure::precondition("cannot resume a stopped container")),
            _ => return Err(Failure::precondition("cannot resume a running process")),
        }
        self.container.resume().await?;
        self.freezing.store(THAWED, Ordering::Release);
        self.events.publish(&TaskResumed { container_id: self.id.clone(), ..Default::default() });
        Ok(())
    }

    pub(crate) async fn stats(&self) -> Result<GuestStats, Failure> {
        if self.own.exited().is_some() {
            return Err(Failure::not_found("cgroup does not exist"));
        }
        self.container.stats().await
    }

    pub(crate) async fn update(&self, resources: LinuxResources) -> Result<(), Failure> {
        if self.own.exited().is_some() {
            return Err(Failure::precondition("cannot update a stopped container"));
        }
        self.container.update(resources).await
    }

    /// The ids of what was executed and runs.
    pub(crate) fn running_exec_ids(&self) -> Vec<String> {
        let execs = self.execs();
        let running = execs.iter().filter(|(_, exec)| exec.process.state() == State::Running);
        running.map(|(id, _)| id.clone()).collect()
    }

    /// Forgets a process that was executed.
    pub(crate) fn delete_exec(&self, exec_id: &str) -> Result<Exited, Failure> {
        let process = self.process(exec_id)?;
        if process.state() == State::Running {
            return Err(Failure::precondition("cannot delete a running process"));
        }
        // One that was never started is none that anybody waits for.
        process.set_stopped(0);
        self.execs().remove(exec_id);
        process.exited().ok_or_else(|| Failure::internal("a stopped process has not exited"))
    }

    /// Removes its container from the guest, which is the end of one that was never started.
    pub(crate) async fn delete(&self) -> Result<Exited, Failure> {
        let _course = self.course.write().await;
        if self.own.state() == State::Running {
            let state = if self.is_frozen() { "paused" } else { "running" };
            return Err(Failure::precondition(format!("cannot delete a {state} process")));
        }
        self.container.remove().await?;
        self.done_with_guest.store(true, Ordering::Release);
        let killed = Exit { code: NEVER_STARTED, out_of_memory: false };
        self.tell_exit("", &self.own, killed);
        self.own.exited().ok_or_else(|| Failure::internal("a stopped process has not exited"))
    }

    fn tell_exit(&self, exec_id: &str, process: &Process, exit: Exit) {
        let Some(Exited { code, at }) = process.set_stopped(u32::from(exit.code)) else { return };
        if exit.out_of_memory {
            self.events.publish(&TaskOOM { container_id: self.id.clone(), ..Default::default() });
        }
        let id = if exec_id.is_empty() { &self.id } else { exec_id };
        log::debug(format_args!("{id} of {} ended with {code}", self.id));
        self.events.publish(&TaskExit {
            container_id: self.id.clone(),
            id: id.to_owned(),
            pid: self.pid,
            exit_status: code,
            exited_at: MessageField::some(timestamp(at)),
            ..Default::default()
        });
    }

    fn running_execs(&self) -> Vec<Arc<Process>> {
        let execs = self.execs();
        let processes = execs.values().map(|exec| exec.process.clone());
        processes.filter(|process| process.state() == State::Running).collect()
    }

    fn is_frozen(&self) -> bool {
        self.freezing.load(Ordering::Acquire) != THAWED
    }

    fn execs(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Exec>> {
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn already_paused() -> Failure {
    Failure::precondition("cannot pause a paused container")
}

/// The terminal's, as the configuration has it; else nothing is known of it until the client says.
pub(crate) fn first_size(spec: Option<&ProcessSpec>) -> TerminalSize {
    let size = spec.and_then(|spec| spec.console_size());
    let side = |side: u64| u32::try_from(side).unwrap_or_default();
    size.map_or(TerminalSize { rows: 0, columns: 0 }, |size| TerminalSize {
        rows: side(size.height()),
        columns: side(size.width()),
    })
}
