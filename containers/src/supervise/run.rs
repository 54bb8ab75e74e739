//! One run of a container: its sandbox is launched, its command started, followed to its end, and the VM
//! ended.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oci_spec::runtime::Spec;
use sandbox::{
    ContainerConfig, CreateError, Exit, GuestError, Label, LaunchError, Process, RecordError, Remains,
    Sandbox, SandboxConfig, SeccompError, SeccompFilter, SnapshotFiles, StateDir, Stdio, TerminalSize,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::Host;
use super::clients::{Answer, Wish};
use super::life::Life;
use super::probe;
use super::streams::Attached;
use crate::config::{Config, StopTimeout};
use crate::container::Container;
use crate::disk::scratch;
use crate::error_chain::describe;
use crate::events::Action;
use crate::exit_code;
use crate::health::Probe;
use crate::log::Writer;
use crate::origin::Origin;
use crate::protocol::{Ended, Failure};
use crate::status::State;

const KILL: u32 = 9;

/// The exit code of a command that was killed.
const KILLED: u8 = 137;

/// How long a killed command may take to be gone before more is done about it.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// How long the guest may take to freeze a container's processes, or let them go on.
const PAUSE_LIMIT: Duration = Duration::from_secs(10);

/// How long the guest may take to unmount the container's disk.
const UNMOUNT_LIMIT: Duration = Duration::from_secs(30);

/// A run whose command has been started.
struct Run {
    sandbox: Sandbox,
    process: Process,
    carrying: JoinSet<()>,
}

/// How far an end that somebody wants has come; `Some` when more is done about it.
#[derive(Clone, Copy)]
enum Stop {
    NotWanted,
    Asked(Option<Instant>),
    Killed(Instant),
    /// Clients that did not read were let go.
    Abandoned(Instant),
}

/// What comes first.
enum Next {
    Ended(Result<Exit, GuestError>),
    Wish(Wish),
    Terminate,
    Probed(Probe),
    Late,
}

#[derive(Debug, thiserror::Error)]
enum BeginError {
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    #[error("cannot open image {image}")]
    Image { image: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error(transparent)]
    Launch(#[from] LaunchError),
    #[error(transparent)]
    Create(#[from] CreateError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("cannot go on from the copy that it was made of")]
    Origin(#[source] std::io::Error),
}

impl BeginError {
    fn failure(&self) -> Failure {
        let code = match self {
            Self::Create(error) => exit_code::of_create_error(error),
            _ => exit_code::FAILED,
        };
        Failure { message: describe(self), code }
    }
}

impl Life<'_> {
    /// How it ended, and what is left of it to be cleared away; or why the command could not be started.
    pub(super) async fn run(&mut self) -> Result<(Ended, Remains), Failure> {
        let mut run = self.begin_run().await?;
        self.running();
        let exit = self.follow(&mut run).await;
        self.host.timeline.mark("command ended");
        Ok(self.tear_down(run, exit).await)
    }

    /// Starts a run; breaks off when somebody wants the container to end.
    async fn begin_run(&mut self) -> Result<Run, Failure> {
        let begin = begin(self.host, &self.container, &self.attached, &self.log, self.size);
        tokio::pin!(begin);
        loop {
            let wish = tokio::select! {
                biased;
                Some(wish) = self.wishes.recv() => wish,
                _ = self.terminate.recv() => Wish::Stop { signal: None, timeout: None },
                begun = &mut begin => return begun.map_err(|error| error.failure()),
            };
            match wish {
                Wish::Stop { .. } => {
                    self.stopping = true;
                    return Err(Failure {
                        message: "it was stopped while it started".to_owned(),
                        code: KILLED,
                    });
                }
                Wish::Resize(size) | Wish::Attached(Some(size)) => self.size = size,
                Wish::Attached(None) => {}
                Wish::Signal { answer, .. } | Wish::Pause(answer) | Wish::Unpause(answer) => {
                    let _ = answer.send(Err("it is still starting".to_owned()));
                }
                Wish::Snapshot { answer, .. } => {
                    let _ = answer.send(Err("it is still starting".to_owned()));
                }
            }
        }
    }

    /// Does what clients want until the command has ended and its output is written. `None`: it would not end.
    async fn follow(&mut self, run: &mut Run) -> Option<Result<Exit, GuestError>> {
        let process = run.process.clone();
        let carrying = &mut run.carrying;
        let ended = async {
            let exit = process.wait().await;
            while carrying.join_next().await.is_some() {}
            exit
        };
        tokio::pin!(ended);
        let (probing, mut probes) = self.probe(&run.sandbox);
        let mut stop = Stop::NotWanted;
        let exit = loop {
            let next = tokio::select! {
                biased;
                exit = &mut ended => Next::Ended(exit),
                Some(wish) = self.wishes.recv() => Next::Wish(wish),
                _ = self.terminate.recv() => Next::Terminate,
                Some(probe) = probes.recv() => Next::Probed(probe),
                () = stop.late() => Next::Late,
            };
            match next {
                Next::Ended(exit) => break Some(exit),
                Next::Wish(wish) => self.fulfil(wish, &run.sandbox, &run.process, &mut stop).await,
                Next::Terminate => {
                    let wish = Wish::Stop { signal: None, timeout: None };
                    self.fulfil(wish, &run.sandbox, &run.process, &mut stop).await;
                }
                Next::Probed(probe) => self.probed(probe),
                Next::Late => match stop {
                    Stop::NotWanted => {}
                    Stop::Asked(_) => self.kill(&run.process, &mut stop),
                    Stop::Killed(_) => {
                        // A client that does not read holds up the output, and so the end.
                        self.attached.abandon();
                        stop = Stop::Abandoned(Instant::now() + KILL_GRACE);
                    }
                    Stop::Abandoned(_) => break None,
                },
            }
        };
        drop(probing);
        exit
    }

    async fn fulfil(&mut self, wish: Wish, sandbox: &Sandbox, process: &Process, stop: &mut Stop) {
        match wish {
            Wish::Signal { signal, answer } => self.signal(signal, process, answer),
            Wish::Resize(size) => self.resize(size, process),
            Wish::Attached(size) => {
                self.note(Action::Attach, &[]);
                size.into_iter().for_each(|size| self.resize(size, process));
            }
            Wish::Stop { signal, timeout } => self.stop(signal, timeout, sandbox, process, stop),
            Wish::Pause(answer) => self.pause(true, sandbox, answer).await,
            Wish::Unpause(answer) => self.pause(false, sandbox, answer).await,
            Wish::Snapshot { directory, answer } => self.snapshot(directory, sandbox, answer),
        }
    }

    fn snapshot(&self, directory: PathBuf, sandbox: &Sandbox, answer: Answer<Duration>) {
        let state = self.container.status().state;
        if state != State::Running {
            // Who asked may be gone.
            let _ = answer.send(Err(format!("it is {}", state.name())));
            return;
        }
        let (snapshotter, id) = (sandbox.snapshotter(), self.container.id().to_owned());
        tokio::spawn(async move {
            let taken = snapshotter.take(&SnapshotFiles::at(directory), &id).await;
            let _ = answer.send(taken.map_err(|error| describe(&error)));
        });
    }

    /// The stop signal, and a kill, end the container for good, as Docker has it.
    fn signal(&mut self, signal: u32, process: &Process, answer: Answer) {
        self.note(Action::Kill, &[("signal", &signal.to_string())]);
        if signal == KILL || signal == self.container.config().stop_signal {
            self.stopping = true;
        }
        let process = process.clone();
        tokio::spawn(async move {
            let told = match process.signal(signal).await {
                // It ended of the signal before it could answer.
                Ok(()) | Err(GuestError::Gone | GuestError::Ended(_)) => Ok(()),
                Err(error) => Err(describe(&error)),
            };
            // Who asked may be gone.
            let _ = answer.send(told);
        });
    }

    fn resize(&mut self, size: TerminalSize, process: &Process) {
        self.size = size;
        if self.container.config().terminal() {
            let process = process.clone();
            // Only a process that is gone cannot be told.
            tokio::spawn(async move { drop(process.resize(size).await) });
        }
    }

    fn stop(
        &mut self,
        signal: Option<u32>,
        timeout: Option<StopTimeout>,
        sandbox: &Sandbox,
        process: &Process,
        stop: &mut Stop,
    ) {
        self.stopping = true;
        let config = self.container.config();
        let signal = signal.unwrap_or(config.stop_signal);
        let until = match timeout.unwrap_or(config.stop_timeout) {
            StopTimeout::After(0) => return self.kill(process, stop),
            StopTimeout::After(seconds) => Some(Instant::now() + Duration::from_secs(seconds.into())),
            StopTimeout::Never => None,
        };
        self.note(Action::Kill, &[("signal", &signal.to_string())]);
        // Somebody more impatient may have come before.
        if matches!(stop, Stop::NotWanted | Stop::Asked(_)) {
            *stop = Stop::Asked(until);
        }
        let (guest, id, process) = (sandbox.guest().clone(), config.id.clone(), process.clone());
        let paused = self.container.status().state == State::Paused;
        tokio::spawn(async move {
            // Only a process that is gone cannot be told.
            let _ = process.signal(signal).await;
            if paused {
                let _ = guest.resume(&id).await;
            }
        });
    }

    fn kill(&mut self, process: &Process, stop: &mut Stop) {
        self.note(Action::Kill, &[("signal", &KILL.to_string())]);
        *stop = Stop::Killed(Instant::now() + KILL_GRACE);
        let process = process.clone();
        tokio::spawn(async move { drop(process.signal(KILL).await) });
    }

    async fn pause(&mut self, pause: bool, sandbox: &Sandbox, answer: Answer) {
        let (from, to, action) = match pause {
            true => (State::Running, State::Paused, Action::Pause),
            false => (State::Paused, State::Running, Action::Unpause),
        };
        let state = self.container.status().state;
        let done = if state != from {
            Err(format!("it is {}", state.name()))
        } else {
            let (guest, id) = (sandbox.guest(), self.container.id());
            let asked = async { if pause { guest.pause(id).await } else { guest.resume(id).await } };
            match timeout(PAUSE_LIMIT, asked).await {
                Ok(done) => done.map_err(|error| describe(&error)),
                Err(_) => Err("its guest does not answer".to_owned()),
            }
        };
        if done.is_ok() {
            self.set(|status| status.state = to);
            self.note(action, &[]);
        }
        // Who asked may be gone.
        let _ = answer.send(done);
    }

    /// Has the container's health looked after, until the set is dropped.
    fn probe(&self, sandbox: &Sandbox) -> (JoinSet<()>, mpsc::Receiver<Probe>) {
        let (probes, probed) = mpsc::channel(1);
        let mut probing = JoinSet::new();
        let config = self.container.config();
        if let Some(check) = config.health.clone() {
            probing.spawn(probe::probe(sandbox.guest().clone(), config.clone(), check, probes));
        }
        (probing, probed)
    }

    fn probed(&mut self, probe: Probe) {
        let config = self.container.config();
        let (Some(check), Some(mut health)) = (config.health.clone(), self.container.status().health.clone())
        else {
            return;
        };
        let before = health.state;
        let started = self.container.status().started.unwrap_or(probe.started);
        let early = probe.started.duration_since(started).unsigned_abs() < check.start_period;
        health.take(probe, &check, early);
        if health.state != before {
            self.note(Action::HealthStatus(health.state.name()), &[]);
        }
        self.set(|status| status.health = Some(health));
    }

    async fn tear_down(&mut self, run: Run, exit: Option<Result<Exit, GuestError>>) -> (Ended, Remains) {
        self.attached.forget_input();
        // A disk that is used again is to be whole.
        if exit.as_ref().is_some_and(Result::is_ok) && !self.container.config().auto_remove {
            let unmounted = run.sandbox.guest().remove_container(self.container.id());
            // Its journal brings a disk back that was not.
            let _ = timeout(UNMOUNT_LIMIT, unmounted).await;
        }
        let (vm, remains) = run.sandbox.halt().await;
        let ended = match exit {
            Some(Ok(exit)) => Ended { out_of_memory: exit.out_of_memory, ..self.end(exit.code) },
            Some(Err(error)) => Ended { error: describe(&error), ..self.end(exit_code::FAILED) },
            None => Ended { error: "it did not end when it was killed".to_owned(), ..self.end(KILLED) },
        };
        if ended.out_of_memory {
            self.note(Action::Oom, &[]);
        }
        (Ended { kvm_exits: vm.exits.clone(), ..ended }, remains)
    }
}

impl Stop {
    /// Waits until more is to be done about it.
    async fn late(self) {
        match self {
            Self::NotWanted | Self::Asked(None) => std::future::pending().await,
            Self::Asked(Some(until)) | Self::Killed(until) | Self::Abandoned(until) => {
                sleep_until(until).await
            }
        }
    }
}

/// Launches the sandbox and starts the command, its streams attached.
async fn begin(
    host: &Host<'_>,
    container: &Container,
    attached: &Attached,
    log: &Arc<Mutex<Writer>>,
    size: TerminalSize,
) -> Result<Run, BeginError> {
    let config = container.config();
    let origin = container.origin();
    if let Some(origin) = &origin {
        origin.check().map_err(BeginError::Origin)?;
        // Whatever comes of it: once it has gone on, its disk fits the copy of its memory no more.
        container.forget_origin().map_err(BeginError::Origin)?;
    }
    let (spec, seccomp) = confinement(&config.spec, host.containers.state())?;
    let image = (host.open_image)(config)
        .map_err(|source| BeginError::Image { image: config.image.name.clone(), source })?;
    host.timeline.mark("image opened");
    let sandbox_config = SandboxConfig {
        label: label(config),
        hostname: config.hostname.clone(),
        vcpus: config.vcpus,
        memory_limit: config.memory,
        image,
        scratch: Some(scratch(host, container)),
        limits: config.limits.of_host(),
        cgroup_parent: None,
        network: None,
        shares: false,
        from: origin.as_ref().map(Origin::files),
    };
    let state = host.containers.state();
    let mut sandbox = Sandbox::launch(host.installation, state, sandbox_config, host.timeline).await?;
    let terminal = config.terminal();
    let stdio = Stdio {
        stdin: config.stdin.open,
        stdout: true,
        stderr: !terminal,
        terminal: terminal.then_some(size),
    };
    let container_config = ContainerConfig {
        id: config.id.clone(),
        spec,
        seccomp,
        rootfs: sandbox.rootfs().clone(),
        stdio,
        user: config.user.clone(),
        files: config.files.iter().cloned().map(Into::into).collect(),
        init: config.init,
        shared_pids: None,
    };
    let guest = sandbox.guest();
    let (process, streams) = match &origin {
        None => guest.create_container(container_config).await?,
        Some(origin) => guest.take_over(&origin.id, container_config, &config.hostname).await?,
    };
    sandbox.learn_working_set().await;
    host.timeline.mark("container created");
    attached.take_input(streams.stdin, config.stdin, terminal);
    let carrying = attached.carry(streams.stdout, streams.stderr, log);
    match &origin {
        None => process.start().await?,
        // It was copied as it stood.
        Some(_) => sandbox.guest().resume(&config.id).await.map_err(CreateError::from)?,
    }
    host.timeline.mark("command started");
    sandbox.set_running()?;
    Ok(Run { sandbox, process, carrying })
}

/// What a spec says of seccomp, and the rest of it.
fn confinement(spec: &Spec, state: &StateDir) -> Result<(Spec, Option<SeccompFilter>), SeccompError> {
    let mut spec = spec.clone();
    let Some(linux) = spec.linux_mut() else { return Ok((spec, None)) };
    let filter = linux.seccomp().as_ref().map(|profile| SeccompFilter::of(profile, state)).transpose()?;
    linux.set_seccomp(None);
    Ok((spec, filter))
}

/// The sandbox is named by the container's full id, so that its record tells whose it is.
pub(crate) fn label(config: &Config) -> Label {
    Label {
        id: config.id.clone(),
        name: config.id.clone(),
        image: config.image.name.clone(),
        command: config.command().to_vec(),
        process: config.spec.process().clone().unwrap_or_default(),
        user: config.user.clone(),
    }
}
