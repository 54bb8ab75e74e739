//! A container's actor: takes its calls one by one and never blocks on one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use agent_api::agent::{ExecRequest, Exit, Failure, Phase, TerminalSize};
use rustix::process::{Signal, kill_process};
use tokio::sync::{mpsc, oneshot};

use super::cgroup::{Cgroup, Watch};
use super::create::{self, Bundle, Created, FirstProcess};
use super::exec::{self, BundlePaths, Executed};
use super::launch::{LaunchedProcess, Starter};
use super::process::Process;
use super::stdio::{Carriage, HostEnds, Switches};
use super::view::View;
use super::{CallError, Environment, Mailboxes};
use crate::reaper::ExitCode;
use crate::{error_chain, failure, log, signals};

type Reply<T> = oneshot::Sender<Result<T, CallError>>;

/// Ended processes whose exits are kept for those who ask late.
const ENDED_KEPT: usize = 256;

/// The exec id of a container's first process.
const INIT: &str = "";

pub(super) enum Command {
    Start {
        reply: Reply<Option<Failure>>,
    },
    Exec {
        request: ExecRequest,
        reply: Reply<Result<u32, Failure>>,
    },
    Signal {
        exec_id: String,
        signal: u32,
        all: bool,
        reply: Reply<()>,
    },
    Resize {
        exec_id: String,
        size: TerminalSize,
        reply: Reply<()>,
    },
    Wait {
        exec_id: String,
        reply: Reply<Exit>,
    },
    /// The cgroup of a container that has started and not ended.
    Running {
        reply: Reply<Cgroup>,
    },
    Cgroup {
        reply: Reply<Cgroup>,
    },
    View {
        reply: Reply<View>,
    },
    /// Gives the pid of the first process, if there is one.
    TakeOver {
        new_id: String,
        streams: HostEnds,
        size: Option<TerminalSize>,
        reply: Reply<Option<u32>>,
    },
    Remove {
        reply: Reply<()>,
    },
    /// From a task of its own: an exec was made, or not.
    Executed {
        exec_id: String,
        result: Result<Executed, Failure>,
        reply: Reply<Result<u32, Failure>>,
    },
    /// From a task of its own: a process has ended and its output is drained.
    Ended {
        exec_id: String,
        code: ExitCode,
        at_ns: i64,
    },
}

/// One container.
pub(super) struct Actor {
    environment: Arc<Environment>,
    id: String,
    bundle: Bundle,
    cgroup: Cgroup,
    /// What lets the first process go; `None` once it has.
    starter: Option<Starter>,
    processes: HashMap<String, State>,
    ended_execs: VecDeque<String>,
    memory_watch: Option<Watch>,
    memory_kills: u64,
    /// Whose other holders are views of the container's files.
    files: Arc<()>,
    mailbox: mpsc::Sender<Command>,
    /// Of all containers, where this one is found under its id.
    mailboxes: Mailboxes,
}

enum State {
    BeingMade,
    Made(Process),
}

impl Actor {
    pub(super) fn new(
        environment: Arc<Environment>,
        id: String,
        created: Created,
        mailbox: mpsc::Sender<Command>,
        mailboxes: Mailboxes,
    ) -> Self {
        let Created { bundle, cgroup, first } = created;
        let memory_watch =
            cgroup.watch_memory().inspect_err(|error| log::warn(error_chain::describe(error))).ok();
        let mut actor = Self {
            environment,
            id,
            bundle,
            cgroup,
            starter: None,
            processes: HashMap::new(),
            ended_execs: VecDeque::new(),
            memory_watch,
            memory_kills: 0,
            files: Arc::new(()),
            mailbox,
            mailboxes,
        };
        if let Some(FirstProcess { process, starter, carriage, switches }) = first {
            actor.starter = Some(starter);
            actor.take_charge(INIT.to_owned(), process, carriage, switches);
        }
        actor
    }

    /// Serves until the container is removed; gives the id it has then.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) -> String {
        loop {
            let command = tokio::select! {
                command = commands.recv() => command,
                () = memory_changes(&self.memory_watch) => {
                    self.tell_memory_kills().await;
                    continue;
                }
            };
            match command {
                Some(Command::Remove { reply }) => match self.check_removable() {
                    Ok(()) => {
                        let id = self.id.clone();
                        // The caller may have given up; the container is gone nonetheless.
                        let _ = reply.send(self.remove().await);
                        return id;
                    }
                    Err(error) => answer(reply, Err(error)),
                },
                Some(command) => self.handle(command).await,
                None => return self.id,
            }
        }
    }

    async fn handle(&mut self, command: Command) {
        match command {
            Command::Start { reply } => self.start(reply),
            Command::Exec { request, reply } => self.exec(request, reply),
            Command::Executed { exec_id, result, reply } => self.executed(exec_id, result, reply),
            Command::Signal { exec_id, signal, all, reply } => {
                answer(reply, self.signal(&exec_id, signal, all))
            }
            Command::Resize { exec_id, size, reply } => {
                answer(reply, self.process(&exec_id).and_then(|process| process.resize(&size)));
            }
            Command::Wait { exec_id, reply } => match self.process(&exec_id) {
                Ok(process) => process.wait(reply),
                Err(error) => answer(reply, Err(error)),
            },
            Command::Running { reply } => {
                answer(reply, self.check_running().map(|()| self.cgroup.clone()));
            }
            Command::Cgroup { reply } => answer(reply, Ok(self.cgroup.clone())),
            Command::View { reply } => answer(reply, Ok(self.view())),
            Command::Ended { exec_id, code, at_ns } => self.ended(exec_id, code, at_ns).await,
            Command::TakeOver { new_id, streams, size, reply } => {
                let taken = self.take_over(new_id, streams, size).await;
                answer(reply, taken);
            }
            Command::Remove { reply } => answer(reply, self.check_removable()),
        }
    }

    /// Goes on under another id, for another host.
    async fn take_over(
        &mut self,
        new_id: String,
        streams: HostEnds,
        size: Option<TerminalSize>,
    ) -> Result<Option<u32>, CallError> {
        if let (Some(size), Ok(first)) = (size, self.process(INIT))
            && !first.has_ended()
        {
            first.resize(&size)?;
        }
        super::rename(&self.mailboxes, &self.id, &new_id)?;
        self.id = new_id;
        for state in self.processes.values_mut() {
            if let State::Made(process) = state {
                process.rename(&self.id);
            }
        }
        let Some(State::Made(first)) = self.processes.get_mut(INIT) else { return Ok(None) };
        first.give_streams(streams)?;
        let pid = first.pid();
        // Its event went to the host the guest had before, or comes to this one under a name it does not know.
        if let Some(exit) = first.exit().cloned() {
            self.environment.events.exit(exit).await;
        }
        Ok(Some(pid))
    }

    fn start(&mut self, reply: Reply<Option<Failure>>) {
        let Some(starter) = self.starter.take() else {
            return answer(reply, Err(CallError::WrongState("the container was started before".to_owned())));
        };
        // Executing a program reads disks.
        tokio::spawn(async move {
            let failure = match starter.start().await {
                Ok(report) => report.as_ref().map(failure::of_program),
                Err(error) => Some(failure::at(Phase::PHASE_START, &error)),
            };
            answer(reply, Ok(failure));
        });
    }

    fn exec(&mut self, request: ExecRequest, reply: Reply<Result<u32, Failure>>) {
        let exec_id = request.exec_id.clone();
        if let Err(error) = self.check_running() {
            return answer(reply, Err(error));
        }
        if self.cgroup.is_frozen() {
            return answer(reply, Err(CallError::WrongState("the container is paused".to_owned())));
        }
        if self.processes.contains_key(&exec_id) {
            return answer(reply, Err(CallError::Exists(format!("process {exec_id:?}"))));
        }
        self.processes.insert(exec_id.clone(), State::BeingMade);
        let (environment, mailbox) = (self.environment.clone(), self.mailbox.clone());
        let Bundle { made_as, dir, rootfs, seccomp, .. } = &self.bundle;
        let bundle = BundlePaths {
            made_as: made_as.clone(),
            dir: dir.clone(),
            rootfs: rootfs.path().to_owned(),
            seccomp: seccomp.clone(),
        };
        tokio::spawn(async move {
            let result = exec::exec(&environment, bundle, request).await;
            // Without an actor there is no container, and the process went with it.
            let _ = mailbox.send(Command::Executed { exec_id, result, reply }).await;
        });
    }

    fn executed(
        &mut self,
        exec_id: String,
        result: Result<Executed, Failure>,
        reply: Reply<Result<u32, Failure>>,
    ) {
        let made = match result {
            Ok(Executed { process, carriage }) => {
                let pid = process.pid.as_raw_nonzero().get().unsigned_abs();
                self.take_charge(exec_id, process, carriage, Switches::default());
                Ok(pid)
            }
            Err(failure) => {
                self.processes.remove(&exec_id);
                Err(failure)
            }
        };
        answer(reply, Ok(made));
    }

    /// Notes the process, and has its end come to the mailbox once its output is drained.
    fn take_charge(
        &mut self,
        exec_id: String,
        process: LaunchedProcess,
        carriage: Carriage,
        switches: Switches,
    ) {
        let LaunchedProcess { pid, pidfd, exit } = process;
        let made = Process::new(pid, pidfd, self.cgroup.memory_kills(), carriage.terminal(), switches);
        self.processes.insert(exec_id.clone(), State::Made(made));
        let (mailbox, cgroup) = (self.mailbox.clone(), self.cgroup.clone());
        tokio::spawn(async move {
            // The reaper outlives every process.
            let Ok(code) = exit.await else { return };
            let at_ns = wall_clock_ns();
            if exec_id == INIT
                // In a PID namespace of its own, all others have ended with it.
                && let Err(error) = cgroup.kill()
            {
                log::warn(error_chain::describe(&error));
            }
            carriage.finish().await;
            let _ = mailbox.send(Command::Ended { exec_id, code, at_ns }).await;
        });
    }

    async fn ended(&mut self, exec_id: String, code: ExitCode, exited_at_ns: i64) {
        self.tell_memory_kills().await;
        let mut exit = Exit {
            container_id: self.id.clone(),
            exec_id: exec_id.clone(),
            code: code.0,
            exited_at_ns,
            ..Default::default()
        };
        let kills = self.memory_kills;
        if let Ok(process) = self.process(&exec_id) {
            exit.out_of_memory = kills > process.memory_kills();
            process.end(exit.clone());
        }
        if exec_id != INIT {
            self.ended_execs.push_back(exec_id);
            if self.ended_execs.len() > ENDED_KEPT
                && let Some(oldest) = self.ended_execs.pop_front()
            {
                self.processes.remove(&oldest);
            }
        }
        self.environment.events.exit(exit).await;
    }

    fn signal(&mut self, exec_id: &str, number: u32, all: bool) -> Result<(), CallError> {
        let signal = signals::from_number(number)
            .ok_or_else(|| CallError::BadArgument(format!("there is no signal {number}")))?;
        let process = self.process(exec_id)?;
        if !all {
            return process.signal(signal);
        }
        let internal = |error: &dyn std::error::Error| CallError::Internal(error_chain::describe(error));
        if signal == Signal::KILL {
            return self.cgroup.kill().map_err(|error| internal(&error));
        }
        for pid in self.cgroup.processes().map_err(|error| internal(&error))? {
            // One that went meanwhile needs no signal.
            let _ = kill_process(pid, signal);
        }
        Ok(())
    }

    /// Tells of each kill for want of memory since it last did.
    async fn tell_memory_kills(&mut self) {
        let kills = self.cgroup.memory_kills();
        while self.memory_kills < kills {
            self.memory_kills += 1;
            self.environment.events.out_of_memory(&self.id).await;
        }
    }

    fn process(&mut self, exec_id: &str) -> Result<&mut Process, CallError> {
        match self.processes.get_mut(exec_id) {
            Some(State::Made(process)) => Ok(process),
            Some(State::BeingMade) => {
                Err(CallError::WrongState(format!("process {exec_id:?} is being made")))
            }
            None => Err(CallError::NotFound(format!("process {exec_id:?}"))),
        }
    }

    fn view(&self) -> View {
        let init = match self.processes.get(INIT) {
            Some(State::Made(process)) => process.handle(),
            _ => None,
        };
        let rootfs = &self.bundle.rootfs;
        View {
            init,
            dir: self.bundle.dir.clone(),
            rootfs: rootfs.path().to_owned(),
            sides: rootfs.sides(),
            _in_use: self.files.clone(),
        }
    }

    /// Whether its first process has ended, or there never was one.
    fn has_ended(&self) -> bool {
        !matches!(self.processes.get(INIT), Some(State::Made(process)) if !process.has_ended())
    }

    fn check_running(&self) -> Result<(), CallError> {
        if self.starter.is_some() || self.has_ended() {
            return Err(CallError::WrongState("the container is not running".to_owned()));
        }
        Ok(())
    }

    fn check_removable(&self) -> Result<(), CallError> {
        if !self.has_ended() {
            return Err(CallError::WrongState("the container has not ended".to_owned()));
        }
        if self.processes.values().any(|state| matches!(state, State::BeingMade)) {
            return Err(CallError::WrongState("a process of the container is being made".to_owned()));
        }
        if Arc::strong_count(&self.files) > 1 {
            return Err(CallError::WrongState("the container's files are being copied".to_owned()));
        }
        Ok(())
    }

    async fn remove(self) -> Result<(), CallError> {
        self.cgroup.remove().await.map_err(|error| CallError::Internal(error_chain::describe(&error)))?;
        create::remove_bundle(self.bundle).await;
        Ok(())
    }
}

async fn memory_changes(watch: &Option<Watch>) {
    match watch {
        Some(watch) if watch.changed().await.is_ok() => {}
        _ => std::future::pending().await,
    }
}

/// Answers a caller, who may have given up.
fn answer<T>(reply: Reply<T>, result: Result<T, CallError>) {
    let _ = reply.send(result);
}

fn wall_clock_ns() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
