//! All tasks of a shim: a pod's, which share its VM, or a single one.
//!
//! The VM is launched for the first of them. It goes as soon as nothing is left that needs it: the pod's keeper has ended,
//! or there never was one, and no container runs. Deleted and shut down is what is left then.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use containerd_shim_protos::events::task::{TaskCreate, TaskDelete, TaskIO};
use containerd_shim_protos::types::mount::Mount;
use protobuf::MessageField;
use sandbox::{SharedPids, Streams, TerminalSize};
use shim::{Bundle, Membership};
use tokio::sync::watch;

use crate::backend::{ContainerBackend, Launch, NewContainer, PodBackend};
use crate::events::Events;
use crate::failure::Failure;
use crate::hooks::Hooks;
use crate::keeper::Keeper;
use crate::process::{Exited, Process};
use crate::socket::Listening;
use crate::stdio::{Ends, Owner, Stdio};
use crate::task::{NewTask, Task, first_size};
use crate::timestamp::timestamp;

pub(crate) struct Tasks {
    namespace: String,
    launch: Box<dyn Launch>,
    pub(crate) events: Events,
    /// Held while the pod is launched, or looked for.
    pod: tokio::sync::Mutex<Option<Arc<dyn PodBackend>>>,
    known: Mutex<Known>,
    listening: Listening,
    shut_down: watch::Sender<bool>,
}

#[derive(Default)]
struct Known {
    /// `None`: one that is being made.
    tasks: BTreeMap<String, Option<Arc<Task>>>,
    /// The sandbox that the Sandbox API made, which is no task.
    sandbox: Option<Arc<KeptSandbox>>,
}

/// A pod's keeper, by the Sandbox API.
pub(crate) struct KeptSandbox {
    pub(crate) id: String,
    pub(crate) pid: u32,
    pub(crate) created: SystemTime,
    pub(crate) process: Process,
}

pub(crate) struct Creation {
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: Vec<Mount>,
    pub(crate) stdio: Stdio,
}

impl Tasks {
    pub(crate) fn new(
        namespace: String,
        launch: Box<dyn Launch>,
        events: Events,
        listening: Listening,
    ) -> Self {
        Self {
            namespace,
            launch,
            events,
            pod: tokio::sync::Mutex::default(),
            known: Mutex::default(),
            listening,
            shut_down: watch::Sender::new(false),
        }
    }

    pub(crate) async fn create(self: &Arc<Self>, creation: Creation) -> Result<u32, Failure> {
        self.reserve(&creation.id)?;
        let id = creation.id.clone();
        match self.make(creation).await {
            Ok(task) => {
                self.known().tasks.insert(id, Some(task.clone()));
                let tasks = self.clone();
                let pid = task.pid;
                tokio::spawn(async move {
                    let Some(exit) = task.ended().await else { return };
                    // The process clients were told of is gone when they learn of its end, if it is nobody else's.
                    tasks.let_go().await;
                    task.tell(exit).await;
                });
                Ok(pid)
            }
            Err(failure) => {
                self.known().tasks.remove(&id);
                self.let_go().await;
                Err(failure)
            }
        }
    }

    async fn make(
        &self,
        Creation { id, bundle: path, rootfs, stdio }: Creation,
    ) -> Result<Arc<Task>, Failure> {
        let bundle = Bundle::load(&path).map_err(|error| bundle_failure(&error))?;
        let membership = Membership::of(&bundle);
        let size = first_size(bundle.spec.process().as_ref());
        let own = Arc::new(Process::new(stdio, size));
        let keeps = membership == Membership::Sandbox;
        // A keeper says nothing, and its streams stay as they are.
        let ends = match keeps {
            true => Ends::default(),
            false => own.stdio.open(Owner { namespace: &self.namespace, id: &id }, true).await?,
        };
        let pod = self.pod_for(&id, &bundle, &membership).await?;
        let hooks = Hooks::of(&bundle, &id, pod.pid())?;
        if let Some(hooks) = &hooks {
            hooks.on_creation().await?;
        }
        let mut created = TaskCreate {
            container_id: id.clone(),
            bundle: path.display().to_string(),
            rootfs: rootfs.clone(),
            io: MessageField::some(described(&own.stdio)),
            ..Default::default()
        };
        let made: Result<(Arc<dyn ContainerBackend>, _), _> = match keeps {
            true => Ok((Arc::new(Keeper::of(pod.clone())), Streams::default())),
            false => {
                let stdio = own.stdio.wanted(size);
                let shared_pids =
                    shim::joined_pid(&bundle).and_then(|joined| self.shared_pids(joined, pod.pid()));
                pod.create(NewContainer { id: id.clone(), bundle, rootfs, stdio, shared_pids }).await
            }
        };
        if let (Err(_), Some(hooks)) = (&made, &hooks) {
            hooks.after_end().await;
        }
        let (container, streams) = made?;
        own.made(container.process(), ends, streams);
        let (pid, namespace) = (container.pid(), self.namespace.clone());
        created.pid = pid;
        self.events.publish(&created);
        let new = NewTask { id, bundle: path, pid, own, container, hooks, namespace };
        Ok(Arc::new(Task::new(new, self.events.clone())))
    }

    /// Whose processes clients mean by a process they were told of. The keeper's are those that all may join.
    fn shared_pids(&self, joined: u32, keeper: u32) -> Option<SharedPids> {
        if joined == keeper {
            return Some(SharedPids::Sandbox);
        }
        let known = self.known();
        let task = known.tasks.values().flatten().find(|task| task.pid == joined)?;
        Some(SharedPids::Container(task.id.clone()))
    }

    /// The pod a container is to be in: launched for the first, there for others.
    async fn pod_for(
        &self,
        id: &str,
        bundle: &Bundle,
        membership: &Membership,
    ) -> Result<Arc<dyn PodBackend>, Failure> {
        let mut pod = self.pod.lock().await;
        match (pod.as_ref(), membership) {
            (Some(pod), _) => Ok(pod.clone()),
            (None, Membership::Member { pod }) => {
                Err(Failure::precondition(format!("sandbox {pod} is not running")))
            }
            (None, _) => {
                let launched = self.launch.launch(id, bundle).await?;
                Ok(pod.insert(launched).clone())
            }
        }
    }

    /// Launches a pod that is kept without a task.
    pub(crate) async fn keep(self: &Arc<Self>, id: &str, bundle: &Bundle) -> Result<(), Failure> {
        let pod = self.pod_for(id, bundle, &Membership::Sandbox).await?;
        let process = Process::new(Stdio::default(), TerminalSize { rows: 0, columns: 0 });
        process.made(Arc::new(Keeper::of(pod.clone())), Ends::default(), Streams::default());
        let id = id.to_owned();
        let sandbox = Arc::new(KeptSandbox { id, pid: pod.pid(), created: SystemTime::now(), process });
        self.known().sandbox = Some(sandbox.clone());
        let tasks = self.clone();
        tokio::spawn(async move {
            let exit = sandbox.process.ended().await;
            sandbox.process.set_stopped(u32::from(exit.code));
            tasks.let_go().await;
        });
        Ok(())
    }

    pub(crate) fn sandbox(&self, id: &str) -> Result<Arc<KeptSandbox>, Failure> {
        let found = self.known().sandbox.clone().filter(|sandbox| sandbox.id == id);
        found.ok_or_else(|| Failure::not_found(format!("sandbox {id} not found")))
    }

    /// Ends a sandbox, and with it whatever still runs in its VM.
    pub(crate) async fn stop_sandbox(&self, id: &str) -> Result<(), Failure> {
        let sandbox = self.sandbox(id)?;
        if let Some(pod) = self.pod.lock().await.take() {
            pod.stop().await;
        }
        sandbox.process.stopped().await;
        Ok(())
    }

    pub(crate) fn get(&self, id: &str) -> Result<Arc<Task>, Failure> {
        let found = self.known().tasks.get(id).cloned().flatten();
        found.ok_or_else(|| Failure::not_found("container not created"))
    }

    /// Ends a task, and all there is of its container.
    pub(crate) async fn delete(&self, id: &str) -> Result<(Arc<Task>, Exited), Failure> {
        let task = self.get(id)?;
        let exited = task.delete().await?;
        if self.known().tasks.remove(id).is_none() {
            return Err(Failure::not_found("container not created"));
        }
        if let Some(hooks) = &task.hooks {
            hooks.after_end().await;
        }
        // After this, whoever lent files or a network to the pod may take them back.
        self.let_go().await;
        self.events.publish(&TaskDelete {
            container_id: task.id.clone(),
            pid: task.pid,
            exit_status: exited.code,
            exited_at: MessageField::some(timestamp(exited.at)),
            ..Default::default()
        });
        Ok((task, exited))
    }

    /// Ends the VM if nothing needs it any more.
    pub(crate) async fn let_go(&self) {
        // Nobody gets the pod while it goes.
        let mut pod = self.pod.lock().await;
        if self.known().need_pod() {
            return;
        }
        if let Some(pod) = pod.take() {
            pod.stop().await;
        }
    }

    /// Unless there is a task left.
    pub(crate) fn shut_down(&self) {
        if self.is_idle() {
            self.shut_down_now();
        }
    }

    /// Whatever is left. Who starts the same container again from now on gets another shim.
    pub(crate) fn shut_down_now(&self) {
        self.listening.withdraw();
        self.shut_down.send_replace(true);
    }

    pub(crate) fn is_idle(&self) -> bool {
        let known = self.known();
        known.tasks.is_empty() && known.sandbox_has_ended()
    }

    /// Waits until the shim is not needed any more.
    pub(crate) async fn done(&self) {
        let mut shut_down = self.shut_down.subscribe();
        // The sender is this value's own.
        let _ = shut_down.wait_for(|shut_down| *shut_down).await;
    }

    fn reserve(&self, id: &str) -> Result<(), Failure> {
        let mut known = self.known();
        if *self.shut_down.borrow() {
            return Err(Failure::new(ttrpc::Code::UNAVAILABLE, "the shim is shut down"));
        }
        if known.tasks.contains_key(id) {
            let words = format!("container with id exists: {id}");
            return Err(Failure::new(ttrpc::Code::ALREADY_EXISTS, words));
        }
        known.tasks.insert(id.to_owned(), None);
        Ok(())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn need_pod(&self) -> bool {
        let done = |task: &Option<Arc<Task>>| task.as_ref().is_some_and(|task| task.is_done_with_guest());
        !self.tasks.values().all(done) || !self.sandbox_has_ended()
    }

    fn sandbox_has_ended(&self) -> bool {
        self.sandbox.as_ref().is_none_or(|sandbox| sandbox.process.exited().is_some())
    }
}

fn described(stdio: &Stdio) -> TaskIO {
    TaskIO {
        stdin: stdio.stdin.clone(),
        stdout: stdio.stdout.clone(),
        stderr: stdio.stderr.clone(),
        terminal: stdio.terminal,
        ..Default::default()
    }
}

fn bundle_failure(error: &shim::BundleError) -> Failure {
    let code = match error {
        shim::BundleError::Missing(_) => ttrpc::Code::NOT_FOUND,
        _ => ttrpc::Code::INVALID_ARGUMENT,
    };
    Failure::of(code, error)
}

#[cfg(test)]
mod tests;
