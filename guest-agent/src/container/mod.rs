//! The containers of this guest: one actor each, reached through its mailbox.
//!
//! [`Containers`] knows only who there is. Everything else about a container is its [`actor`]'s own, so that no
//! lock is held over anything that may block, and a container that misbehaves keeps only itself busy.

mod actor;
mod archive;
mod calls;
mod cgroup;
mod create;
mod devices;
mod exec;
mod files;
mod in_root;
mod init;
pub mod launch;
mod process;
mod processes;
mod resources;
mod rootfs;
mod shared_pids;
mod spec;
mod stats;
mod stdio;
mod sysctls;
mod take_over;
mod terminal;
pub mod user;
mod view;

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent_api::agent::{
    CreateContainerRequest, ExecRequest, Exit, Failure, MountContainerRequest, TerminalSize,
};
use tokio::sync::{mpsc, oneshot};

use self::actor::{Actor, Command};
pub use self::cgroup::{CgroupError, kill_all, prepare as prepare_cgroups};
use self::create::Created;
pub use self::devices::{DevicesError, load_usual as load_usual_devices};
use self::launch::Launcher;
use self::shared_pids::Pause;
use crate::events::Events;
use crate::streams::Streams;

/// Calls a container has not got to yet.
const MAILBOX_LEN: usize = 64;

/// As libcontainer, and the paths ids become part of, have it.
const MAX_ID_LEN: usize = 128;

/// What containers are made with.
pub struct Environment {
    /// Where each container has a directory of its own.
    pub containers_dir: PathBuf,
    pub launcher: Launcher,
    pub streams: Streams,
    pub events: Events,
}

/// Why a call came to nothing, other than by a [`Failure`] of what was to be made.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error(
        "{0:?} is not an id: 1 to {MAX_ID_LEN} letters, digits, '_', '.', '-', beginning with neither of the last two"
    )]
    BadId(String),
    #[error("there is no {0}")]
    NotFound(String),
    #[error("{0}")]
    NoSuchFile(String),
    #[error("there is already a {0}")]
    Exists(String),
    #[error("{0}")]
    WrongState(String),
    #[error("{0}")]
    BadArgument(String),
    #[error("{0}")]
    Internal(String),
}

/// All containers of this guest.
#[derive(Clone)]
pub struct Containers {
    environment: Arc<Environment>,
    mailboxes: Mailboxes,
    pause: Pause,
}

type Mailboxes = Arc<Mutex<HashMap<String, mpsc::Sender<Command>>>>;

impl Containers {
    pub fn new(environment: Environment) -> Self {
        Self { environment: Arc::new(environment), mailboxes: Mailboxes::default(), pause: Pause::default() }
    }

    /// Makes a container; gives the pid of its first process, which waits for [`Containers::start`].
    pub async fn create(&self, request: CreateContainerRequest) -> Result<Result<u32, Failure>, CallError> {
        let (id, environment) = (request.container_id.clone(), self.environment.clone());
        let shared_pids = match request.shared_pids.as_ref() {
            Some(shared) => Some(self.pid_namespace(&shared.container_id).await?),
            None => None,
        };
        let making = async move { create::create(&environment, request, shared_pids).await };
        let created = self.add(id, making).await?;
        // One that was made so has a process.
        Ok(created.map(Option::unwrap_or_default))
    }

    /// Makes a container without a process, for its files.
    pub async fn mount(&self, request: MountContainerRequest) -> Result<Option<Failure>, CallError> {
        let (id, environment) = (request.container_id.clone(), self.environment.clone());
        let mounted = self.add(id, async move { create::mount(&environment, request).await }).await?;
        Ok(mounted.err())
    }

    /// Has the container made, and an actor take charge of it; gives the pid of its process, if it has one.
    async fn add(
        &self,
        id: String,
        making: impl Future<Output = Result<Created, Failure>> + Send + 'static,
    ) -> Result<Result<Option<u32>, Failure>, CallError> {
        check_id(&id)?;
        let (mailbox, commands) = mpsc::channel(MAILBOX_LEN);
        {
            let mut mailboxes = lock(&self.mailboxes);
            if mailboxes.contains_key(&id) {
                return Err(CallError::Exists(format!("container {id:?}")));
            }
            mailboxes.insert(id.clone(), mailbox.clone());
        }
        let (reply, created) = oneshot::channel();
        let (environment, mailboxes) = (self.environment.clone(), self.mailboxes.clone());
        tokio::spawn(async move {
            match making.await {
                Ok(container) => {
                    let pid = container.first.as_ref().map(|first| first.process.pid);
                    // The caller may have given up; the container is there nonetheless.
                    let _ = reply.send(Ok(pid.map(|pid| pid.as_raw_nonzero().get().unsigned_abs())));
                    let actor = Actor::new(environment, id, container, mailbox, mailboxes.clone());
                    let id = actor.run(commands).await;
                    lock(&mailboxes).remove(&id);
                }
                Err(failure) => {
                    lock(&mailboxes).remove(&id);
                    let _ = reply.send(Err(failure));
                }
            }
        });
        created.await.map_err(|_| CallError::Internal("the container's actor is gone".to_owned()))
    }

    /// Lets a container's first process go.
    pub async fn start(&self, id: &str) -> Result<Option<Failure>, CallError> {
        self.ask(id, |reply| Command::Start { reply }).await
    }

    /// Runs a further process; gives its pid.
    pub async fn exec(&self, request: ExecRequest) -> Result<Result<u32, Failure>, CallError> {
        check_id(&request.exec_id)?;
        let id = request.container_id.clone();
        self.ask(&id, |reply| Command::Exec { request, reply }).await
    }

    pub async fn signal(&self, id: &str, exec_id: String, signal: u32, all: bool) -> Result<(), CallError> {
        self.ask(id, |reply| Command::Signal { exec_id, signal, all, reply }).await
    }

    pub async fn resize(&self, id: &str, exec_id: String, size: TerminalSize) -> Result<(), CallError> {
        self.ask(id, |reply| Command::Resize { exec_id, size, reply }).await
    }

    /// Waits until the process has ended and its output is drained.
    pub async fn wait(&self, id: &str, exec_id: String) -> Result<Exit, CallError> {
        self.ask(id, |reply| Command::Wait { exec_id, reply }).await
    }

    pub async fn remove(&self, id: &str) -> Result<(), CallError> {
        self.ask(id, |reply| Command::Remove { reply }).await
    }

    async fn ask<T>(
        &self,
        id: &str,
        command: impl FnOnce(oneshot::Sender<Result<T, CallError>>) -> Command,
    ) -> Result<T, CallError> {
        let not_found = || CallError::NotFound(format!("container {id:?}"));
        let mailbox = lock(&self.mailboxes).get(id).cloned().ok_or_else(not_found)?;
        let (reply, answer) = oneshot::channel();
        mailbox.send(command(reply)).await.map_err(|_| not_found())?;
        answer.await.map_err(|_| not_found())?
    }
}

fn lock(mailboxes: &Mailboxes) -> MutexGuard<'_, HashMap<String, mpsc::Sender<Command>>> {
    mailboxes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has a container found under another id.
fn rename(mailboxes: &Mailboxes, id: &str, new_id: &str) -> Result<(), CallError> {
    let mut mailboxes = lock(mailboxes);
    if id != new_id && mailboxes.contains_key(new_id) {
        return Err(CallError::Exists(format!("container {new_id:?}")));
    }
    let mailbox = mailboxes.remove(id).ok_or_else(|| CallError::NotFound(format!("container {id:?}")))?;
    mailboxes.insert(new_id.to_owned(), mailbox);
    Ok(())
}

/// Ids become names of files and cgroups.
fn check_id(id: &str) -> Result<(), CallError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let good =
        !id.is_empty() && id.len() <= MAX_ID_LEN && id.chars().all(allowed) && !id.starts_with(['.', '-']);
    if good { Ok(()) } else { Err(CallError::BadId(id.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_cannot_lead_out_of_a_directory() {
        for good in ["a", "0123456789abcdef", "web_1.2-3"] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "-rf", ".hidden", "ü", "a b", &"x".repeat(129)] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_renamed_container_is_found_under_its_new_id_alone() {
        let mailboxes = Mailboxes::default();
        for id in ["mother", "other"] {
            lock(&mailboxes).insert(id.to_owned(), mpsc::channel(1).0);
        }
        assert!(matches!(rename(&mailboxes, "mother", "other"), Err(CallError::Exists(_))));
        assert!(matches!(rename(&mailboxes, "nobody", "clone"), Err(CallError::NotFound(_))));
        rename(&mailboxes, "mother", "mother").unwrap();
        rename(&mailboxes, "mother", "clone").unwrap();
        let mut ids: Vec<_> = lock(&mailboxes).keys().cloned().collect();
        ids.sort();
        assert_eq!(ids, ["clone", "other"]);
    }
}
