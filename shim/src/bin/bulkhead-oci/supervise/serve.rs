//! A virtual machine's containers, and who asks for something about them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sandbox::local_socket::LocalListener;
use sandbox::{AsyncControl, GuestError, Process, ProcessInfo, SharedPids, Streams};
use shim::{Bundle, Container, Pod, PodError, Signal};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use super::KILLED;
use crate::blob;
use crate::log::Log;
use crate::protocol::{Ask, ProcessLine, Processes, Reply, Request, Wanted, Wiring};
use crate::state::{Root, Status};
use crate::stats;

/// Between a failure to accept and the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Machine {
    pod: Pod,
    root: Root,
    log: Log,
    /// The container the machine is there for.
    first: String,
    containers: Mutex<HashMap<String, Arc<Container>>>,
    destroyed: Notify,
}

/// Who asks. What it made ends with the connection.
struct Connection {
    socket: AsyncControl,
    machine: Arc<Machine>,
    own: Option<Own>,
}

/// The process that is a connection's own.
struct Own {
    process: Process,
    /// Its container's id, if it is that one's first process.
    member: Option<String>,
}

/// An answer with its descriptors; or why there is none, in words.
type Answer = Result<(Reply, Vec<OwnedFd>), String>;

impl Machine {
    pub(super) fn new(pod: Pod, root: Root, log: Log, first: String) -> Self {
        Self { pod, root, log, first, containers: Mutex::default(), destroyed: Notify::new() }
    }

    /// Of a process in the pod's network namespace.
    pub(super) fn pid(&self) -> u32 {
        self.pod.pid()
    }

    /// Makes a container, of which others may ask for something from then on.
    pub(super) async fn create(
        &self,
        id: &str,
        bundle: &Bundle,
        wanted: Wanted,
    ) -> Result<(Process, Streams), PodError> {
        let shared_pids = shim::joined_pid(bundle).and_then(|pid| self.shared_pids(pid));
        let (container, streams) = self.pod.create(id, bundle, &[], wanted.into(), shared_pids).await?;
        let process = container.process().clone();
        self.lock().insert(id.to_owned(), Arc::new(container));
        Ok((process, streams))
    }

    /// Those of the container of this machine whose process others take this one for.
    fn shared_pids(&self, pid: u32) -> Option<SharedPids> {
        let all = self.root.all().ok()?;
        let mut here = all.into_iter().filter(|container| container.pod == self.first);
        let found =
            here.find(|container| container.supervisor.pid == pid && container.status() != Status::Stopped)?;
        Some(SharedPids::Container(found.id))
    }

    /// Waits until somebody wants the machine's end.
    pub(super) async fn destroyed(&self) {
        self.destroyed.notified().await;
    }

    pub(super) async fn stop(self) {
        self.pod.stop().await;
    }

    fn container(&self, id: &str) -> Result<Arc<Container>, String> {
        self.lock().get(id).cloned().ok_or_else(|| "container not running".to_owned())
    }

    /// A member has ended.
    async fn remove(&self, id: &str) {
        let removed = self.lock().remove(id);
        // Where somebody asks for something about it at this moment, it stays in the guest until that ends.
        if let Some(container) = removed.and_then(Arc::into_inner) {
            let _ = self.pod.remove(container).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Container>>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn start(&self, id: &str) -> Result<(), String> {
        let container = self.container(id)?;
        self.pod.start(&container).await.map_err(in_words)?;
        if let Err(error) = self.pod.forward_ports().await {
            self.log.warning(&format!("the pod's ports are not forwarded: {}", shim::describe(&error)));
        }
        self.advance(id, Status::Created, Status::Running)
    }

    fn advance(&self, id: &str, from: Status, to: Status) -> Result<(), String> {
        self.root.advance(id, &[from], to).map_err(|error| shim::describe(&error))
    }
}

/// Lets in who connects, until the sender of `closing` is dropped; then it ends all connections.
pub(super) async fn accept(
    listener: LocalListener,
    machine: Arc<Machine>,
    mut closing: oneshot::Receiver<Infallible>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            _ = &mut closing => break,
            accepted = listener.accept() => match accepted {
                Ok(socket) => {
                    let connection = Connection { socket, machine: machine.clone(), own: None };
                    connections.spawn(connection.serve());
                }
                // Most likely out of descriptors for a while; the client waits in the backlog.
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    connections.shutdown().await;
}

impl Connection {
    async fn serve(mut self) {
        loop {
            tokio::select! {
                biased;
                code = ended(self.own.as_ref()) => {
                    self.forget().await;
                    if !self.reply(Ok((Reply::Exited(code), Vec::new()))).await { return }
                }
                received = self.socket.receive::<Request>() => {
                    let Ok((request, descriptors)) = received else { break };
                    let answer = self.answer(request, descriptors).await;
                    if !self.reply(answer).await { break }
                }
            }
        }
        // Who keeps the process is gone, and so are its streams.
        if let Some(Own { process, .. }) = &self.own {
            if process.signal(Signal::KILL.number()).await.is_ok() {
                let _ = process.wait().await;
            }
            self.forget().await;
        }
    }

    async fn forget(&mut self) {
        if let Some(Own { member: Some(id), .. }) = self.own.take() {
            self.machine.remove(&id).await;
        }
    }

    async fn reply(&self, answer: Answer) -> bool {
        let (reply, descriptors) = answer.unwrap_or_else(|message| (Reply::Refused(message), Vec::new()));
        let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        self.socket.send(&reply, &descriptors).await.is_ok()
    }

    async fn answer(&mut self, request: Request, descriptors: Vec<OwnedFd>) -> Answer {
        let Request { container: id, ask } = request;
        let machine = self.machine.clone();
        match ask {
            Ask::Create { bundle, wanted } => {
                let bundle = Bundle::load(&bundle).map_err(|error| shim::describe(&error))?;
                let (process, streams) = machine.create(&id, &bundle, wanted).await.map_err(in_words)?;
                self.own = Some(Own { process, member: Some(id) });
                made(streams)
            }
            Ask::Exec { wanted } => {
                let process = descriptors.into_iter().next().ok_or("which process?")?;
                let process = blob::read(process).map_err(|error| shim::describe(&error))?;
                let exec_id = new_exec_id()?;
                let container = machine.container(&id)?;
                let executed = container.exec(&exec_id, process, wanted.into()).await;
                let (process, streams) = executed.map_err(in_words)?;
                self.own = Some(Own { process, member: None });
                made(streams)
            }
            Ask::Start => done(machine.start(&id).await),
            Ask::Signal { signal, all } => {
                let container = machine.container(&id)?;
                let process = self.own.as_ref().map_or(container.process(), |own| &own.process);
                let sent = if all { process.signal_all(signal).await } else { process.signal(signal).await };
                done(sent.map_err(unsent))
            }
            Ask::Resize { rows, columns } => {
                let Own { process, .. } = self.own.as_ref().ok_or("whose terminal?")?;
                let resized = process.resize(sandbox::TerminalSize { rows, columns }).await;
                done(resized.map_err(|error| in_words(error.into())))
            }
            Ask::Pause => {
                machine.container(&id)?.pause().await.map_err(in_words)?;
                done(machine.advance(&id, Status::Running, Status::Paused))
            }
            Ask::Resume => {
                machine.container(&id)?.resume().await.map_err(in_words)?;
                done(machine.advance(&id, Status::Paused, Status::Running))
            }
            Ask::Update(resources) => {
                let container = machine.container(&id)?;
                done(machine.pod.update(&container, *resources).await.map_err(in_words))
            }
            Ask::Processes => {
                let processes = machine.container(&id)?.processes().await.map_err(in_words)?;
                let listed = processes.listed.into_iter().map(line).collect();
                in_blob(&Processes { listed, more: processes.more })
            }
            Ask::Stats => in_blob(&stats::of(&machine.container(&id)?.stats().await.map_err(in_words)?)),
            Ask::Destroy if id == machine.first => {
                machine.destroyed.notify_one();
                done(Ok(()))
            }
            Ask::Destroy => {
                let killed = machine.container(&id)?.process().signal(Signal::KILL.number()).await;
                done(killed.map_err(|error| in_words(error.into())))
            }
        }
    }
}

/// The exit code of a connection's own process, once there is one and it has ended.
async fn ended(own: Option<&Own>) -> u8 {
    match own {
        Some(Own { process, .. }) => process.wait().await.map_or(KILLED, |exit| exit.code),
        None => std::future::pending().await,
    }
}

fn made(streams: Streams) -> Answer {
    let wiring = Wiring::of(&streams);
    let streams = [streams.stdin, streams.stdout, streams.stderr].into_iter().flatten();
    let descriptors = streams.map(|stream| stream.into_std().map(OwnedFd::from));
    let descriptors = descriptors.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    Ok((Reply::Made(wiring), descriptors))
}

fn done(result: Result<(), String>) -> Answer {
    result.map(|()| (Reply::Done, Vec::new()))
}

fn in_blob(value: &impl serde::Serialize) -> Answer {
    let blob = blob::write(value).map_err(|error| shim::describe(&error))?;
    Ok((Reply::Blob, vec![blob]))
}

/// In the words by which runc's callers know that a process has ended already.
fn unsent(error: GuestError) -> String {
    match error {
        GuestError::NotFound(_) | GuestError::Gone | GuestError::Ended(_) => {
            "os: process already finished".to_owned()
        }
        error => in_words(error.into()),
    }
}

fn in_words(error: PodError) -> String {
    shim::describe(&error)
}

/// Several processes may be executed at once; chance keeps their ids apart.
fn new_exec_id() -> Result<String, String> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| format!("cannot get random bytes: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn line(process: ProcessInfo) -> ProcessLine {
    let cpu_percent = process.cpu_percent(SystemTime::now());
    let ProcessInfo { pid, parent_pid, uid, cpu, started, terminal, command } = process;
    let started = started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    ProcessLine {
        pid,
        parent: parent_pid,
        uid,
        cpu_percent,
        started,
        terminal,
        seconds: cpu.as_secs(),
        command,
    }
}
