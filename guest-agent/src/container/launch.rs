//! Has a helper make a process (see [`crate::helper`]), and takes charge of it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::sync::oneshot;

use super::stdio::{Attached, ProcessSide};
use crate::descriptor::Descriptor;
use crate::helper;
use crate::helper::protocol::{self, AgentEnd, Answer, Confinement, Descriptors, Kind, Report, Request};
use crate::pause;
use crate::reaper::{ExitCode, Reaper};

#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("cannot run the helper")]
    Helper(#[from] io::Error),
    #[error("{0}")]
    Libcontainer(String),
    #[error("{}", .0.message)]
    Program(Report),
    #[error("cannot make a PID namespace: {0}")]
    Pause(String),
}

/// How helpers are run and their processes collected.
#[derive(Clone)]
pub struct Launcher {
    /// The binary that serves as helper: this one.
    program: PathBuf,
    /// Where libcontainer keeps the state of all containers.
    pub(super) state_dir: PathBuf,
    reaper: Reaper,
    /// A helper that has no request yet.
    waiting: Arc<Mutex<Option<AgentEnd>>>,
}

/// A process that was made, and the agent's side of its stdio.
pub struct Launched {
    pub process: LaunchedProcess,
    pub attached: Attached,
    pub starter: Starter,
}

pub struct LaunchedProcess {
    pub pid: Pid,
    pub pidfd: OwnedFd,
    pub exit: oneshot::Receiver<ExitCode>,
}

/// Lets a process that waits execute its program.
pub struct Starter {
    gate: OwnedFd,
    reports: Descriptor,
}

impl Launcher {
    pub fn new(program: PathBuf, state_dir: PathBuf, reaper: Reaper) -> Self {
        Self { program, state_dir, reaper, waiting: Arc::default() }
    }

    /// Runs a helper ahead of need: the guest is about to have its first container made, or to become a template, whose
    /// clones then all find it waiting. Later processes get one when they are asked for.
    ///
    /// Until its request comes it opens nothing, and it shares every namespace with the agent, so that the name and the
    /// mounts it finds are the adopted guest's. Of randomness it has what any program has at its exec: where it lies in
    /// memory and its stack's canary. In clones of a template those are the same, as the agent's are; what it executes
    /// gets its own. It makes its first hash map later than that.
    pub fn run_ahead(&self) -> io::Result<()> {
        let helper = self.spawn(helper::ARGUMENT)?;
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(helper);
        Ok(())
    }

    /// Makes a container's first process, which waits for its [`Starter`]; below the agent's small init if that
    /// is wanted.
    pub async fn init(
        &self,
        container_id: &str,
        bundle: &Path,
        below_init: bool,
        confinement: Confinement,
        stdio: ProcessSide,
    ) -> Result<Launched, LaunchError> {
        let kind = Kind::Init { bundle: bundle.to_owned(), below_init };
        self.launch(container_id, kind, true, confinement, stdio).await
    }

    /// Makes a further process of a running container, which executes its program at once.
    pub async fn tenant(
        &self,
        container_id: &str,
        process: &Path,
        confinement: Confinement,
        stdio: ProcessSide,
    ) -> Result<Launched, LaunchError> {
        let kind = Kind::Tenant { process: process.to_owned() };
        let launched = self.launch(container_id, kind, false, confinement, stdio).await?;
        match launched.starter.outcome().await? {
            Some(report) => Err(LaunchError::Program(report)),
            None => Ok(launched),
        }
    }

    /// Makes a PID namespace: its first process, which keeps it (see [`crate::pause`]).
    pub(super) async fn pause(&self) -> Result<(Pid, OwnedFd), LaunchError> {
        let maker = self.spawn(pause::MAKER)?;
        match maker.answer().await? {
            Answer::Launched { pid } => Ok(launched(pid)?),
            Answer::Failed { message } => Err(LaunchError::Pause(message)),
        }
    }

    async fn launch(
        &self,
        container_id: &str,
        kind: Kind,
        gated: bool,
        confinement: Confinement,
        stdio: ProcessSide,
    ) -> Result<Launched, LaunchError> {
        let (reports, report) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
        let (gate, opener) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
        let starter = Starter { gate: opener, reports: Descriptor::new(reports)? };

        let request = Request {
            container_id: container_id.to_owned(),
            state_dir: self.state_dir.clone(),
            kind,
            stdio: stdio.request(),
            gated,
            confinement,
        };
        let (process_stdio, pending) = match stdio {
            ProcessSide::Pipes { process, agent } => (Some(process), Pending::Pipes(agent)),
            ProcessSide::Terminal { console, .. } => (None, Pending::Terminal(console)),
        };
        let agent_end = self.ask(&request, &Descriptors { report, gate, stdio: process_stdio })?;

        match agent_end.answer().await? {
            Answer::Launched { pid } => {
                let (pid, pidfd) = launched(pid)?;
                let exit = self.reaper.expect(pid);
                drop(agent_end);
                let attached = pending.attach().await?;
                Ok(Launched { process: LaunchedProcess { pid, pidfd, exit }, attached, starter })
            }
            Answer::Failed { message } => match starter.written_report() {
                Some(report) => Err(LaunchError::Program(report)),
                None => Err(LaunchError::Libcontainer(message)),
            },
        }
    }

    /// Hands the request to a helper. It takes the descriptors along; ours close with `descriptors`.
    fn ask(&self, request: &Request, descriptors: &Descriptors) -> io::Result<AgentEnd> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(helper) = waiting
            // One that was killed while it waited cannot be sent anything.
            && helper.send(request, descriptors).is_ok()
        {
            return Ok(helper);
        }
        let helper = self.spawn(helper::ARGUMENT)?;
        helper.send(request, descriptors)?;
        Ok(helper)
    }

    /// Runs this binary again, as what the argument says.
    fn spawn(&self, argument: &str) -> io::Result<AgentEnd> {
        let (agent_end, helper_end) = protocol::pair()?;
        let child =
            Command::new(&self.program).arg(argument).env_clear().stdin(Stdio::from(helper_end)).spawn()?;
        // Nobody asks for its exit: the reaper collects it like an orphan's.
        drop(child);
        Ok(agent_end)
    }
}

/// The process that a helper named. The helper, its parent, waits for the socket to close: the pid cannot have been reused.
fn launched(pid: i32) -> io::Result<(Pid, OwnedFd)> {
    let pid = Pid::from_raw(pid).ok_or_else(|| io::Error::other("the helper named no process"))?;
    Ok((pid, pidfd_open(pid, PidfdFlags::empty())?))
}

/// The agent's side of a process's stdio while the process is being made.
enum Pending {
    Pipes(super::stdio::AgentEnds),
    Terminal(super::terminal::Console),
}

impl Pending {
    async fn attach(self) -> io::Result<Attached> {
        match self {
            Self::Pipes(agent) => Ok(Attached::Pipes(agent)),
            // It was sent before the process was ready.
            Self::Terminal(console) => console.master().await.map(Attached::Terminal),
        }
    }
}

impl Starter {
    /// Lets the process go; tells what stopped it from executing its program, if anything did.
    pub async fn start(self) -> io::Result<Option<Report>> {
        match rustix::io::write(&self.gate, &[1]) {
            // The process is gone; its exit will tell.
            Ok(_) | Err(rustix::io::Errno::PIPE) => self.outcome().await,
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the program is executed or cannot be.
    async fn outcome(&self) -> io::Result<Option<Report>> {
        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            match self.reports.read(&mut chunk).await? {
                0 => return Ok(Report::parse(&bytes)),
                read => bytes.extend_from_slice(chunk.get(..read).unwrap_or_default()),
            }
        }
    }

    /// A report that is there already.
    fn written_report(&self) -> Option<Report> {
        let mut bytes = [0; 4096];
        let read = self.reports.try_read(&mut bytes).ok()?;
        Report::parse(bytes.get(..read)?)
    }
}
