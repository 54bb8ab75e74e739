//! All containers of a data directory: made, found, renamed, removed.
//!
//! A container's directory is locked (flock(2)) by whoever changes it; while it runs, that is its supervisor.
//! The directory above is locked for the few file operations that give or take a name or a directory. So two
//! commands never take one name, and what a crash left can be told from what somebody is busy with.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use sandbox::{ProcessId, RecordError, ScratchError, StateDir, copy_disk, make_disk};

use crate::config::Config;
use crate::container::{Container, Named};
use crate::events::{Action, EventLog};
use crate::name::is_name;
use crate::origin::Origin;
use crate::status::{CRASHED, State};

/// The directory of all containers.
#[derive(Debug, Clone)]
pub struct Containers {
    directory: PathBuf,
    state: StateDir,
    events: EventLog,
}

/// A container that this process has locked: nobody else starts, changes or removes it.
#[derive(Debug)]
pub struct Claimed {
    pub(crate) container: Container,
    pub(crate) lock: File,
}

#[derive(Debug, thiserror::Error)]
pub enum ContainersError {
    #[error("cannot use the containers' directory {}", .path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error(transparent)]
    State(#[from] RecordError),
    #[error("the name {name:?} is already in use by container {id:?}; rm or rename it")]
    NameTaken { name: String, id: String },
    #[error(
        "a container cannot be named {0:?}: two or more letters, digits, '_', '.' and '-', a letter or digit first"
    )]
    BadName(String),
    #[error("no such container: {0}")]
    NotFound(String),
    #[error("{0:?} is the beginning of more than one container's id")]
    Ambiguous(String),
    #[error("container {0} is running: stop it first or use rm -f")]
    Running(String),
    #[error("another command is starting or removing container {0}")]
    Busy(String),
    #[error("cannot write the record of container {name}")]
    Write { name: String, source: io::Error },
    #[error(transparent)]
    Disk(#[from] ScratchError),
    #[error("cannot remove container {name}")]
    Remove { name: String, source: io::Error },
}

impl Containers {
    /// At `directory`, made if absent; their sandboxes have their records in `state`.
    pub fn open(directory: PathBuf, state: StateDir) -> Result<Self, ContainersError> {
        let events = EventLog::in_directory(state.path());
        match DirBuilder::new().mode(0o700).recursive(true).create(&directory) {
            Ok(()) => Ok(Self { directory, state, events }),
            Err(source) => Err(ContainersError::Directory { path: directory, source }),
        }
    }

    /// Where their sandboxes have their records.
    pub fn state(&self) -> &StateDir {
        &self.state
    }

    /// What happens to them.
    pub fn events(&self) -> &EventLog {
        &self.events
    }

    /// Makes a container, for this process to go on with: it is there for others as well, and stays when the
    /// claim is dropped.
    pub fn create(&self, config: Config) -> Result<Claimed, ContainersError> {
        self.create_with(config, |container| {
            if container.config().keeps_disk {
                make_disk(&container.disk(), container.config().storage)?;
            }
            Ok(())
        })
    }

    /// Makes a container whose first run goes on from a copy of another one.
    pub fn create_copy(&self, config: Config, origin: &Origin) -> Result<Claimed, ContainersError> {
        self.create_with(config, |container| {
            let made = copy_disk(&origin.files().disk(), &container.disk())
                .and_then(|()| container.write_origin(origin));
            made.map_err(|source| ContainersError::Write { name: container.name().to_owned(), source })
        })
    }

    fn create_with(
        &self,
        config: Config,
        fill: impl FnOnce(&Container) -> Result<(), ContainersError>,
    ) -> Result<Claimed, ContainersError> {
        if !is_name(&config.name) {
            return Err(ContainersError::BadName(config.name));
        }
        let failed = |source| ContainersError::Write { name: config.name.clone(), source };
        let one_at_a_time = self.lock()?;
        self.check_free(&config.name)?;
        let directory = self.directory.join(&config.id);
        let mut container = Container::new(directory.clone(), config.clone());
        DirBuilder::new().mode(0o700).create(&directory).map_err(failed)?;
        let made = File::open(&directory).and_then(|lock| {
            flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
            let supervisor = ProcessId::of(std::process::id())?;
            container.update(|status| status.supervisor = Some(supervisor))?;
            // The last: from now on it is one.
            container.write_config()?;
            Ok(lock)
        });
        drop(one_at_a_time);
        let claimed = made.map_err(failed).and_then(|lock| {
            fill(&container)?;
            Ok(Claimed { container, lock })
        });
        match claimed {
            Ok(claimed) => {
                self.events.note(&claimed.container, Action::Create, &[]);
                Ok(claimed)
            }
            Err(error) => {
                // What cannot be removed either is cleaned up by whoever lists the containers next.
                let _ = fs::remove_dir_all(&directory);
                Err(error)
            }
        }
    }

    /// The container of that id as its supervisor takes it over.
    pub(crate) fn handed_over(&self, id: &str) -> io::Result<Container> {
        Container::read(self.directory.join(id))
    }

    /// All of them, newest first.
    pub fn list(&self) -> Result<Vec<Container>, ContainersError> {
        let mut containers = Vec::new();
        for directory in self.directories()? {
            containers.extend(self.look(directory)?);
        }
        containers.sort_by(|a, b| (b.config().created, b.id()).cmp(&(a.config().created, a.id())));
        Ok(containers)
    }

    /// By id, name, or the beginning of an id.
    pub fn find(&self, wanted: &str) -> Result<Container, ContainersError> {
        let not_found = || ContainersError::NotFound(wanted.to_owned());
        let mut beginning = Vec::new();
        let mut exact = None;
        for directory in self.directories()? {
            let Ok(named) = Named::read(&directory) else { continue };
            if named.id == wanted || named.name == wanted {
                exact = Some(directory);
                break;
            }
            if !wanted.is_empty() && named.id.starts_with(wanted) {
                beginning.push(directory);
            }
        }
        let directory = match (exact, beginning.len()) {
            (Some(directory), _) => directory,
            (None, 0 | 1) => beginning.pop().ok_or_else(not_found)?,
            (None, _) => return Err(ContainersError::Ambiguous(wanted.to_owned())),
        };
        self.look(directory)?.ok_or_else(not_found)
    }

    /// Locks a container that does not run.
    pub fn claim(&self, container: &Container) -> Result<Claimed, ContainersError> {
        let not_found = || ContainersError::NotFound(container.name().to_owned());
        let directory = container.directory();
        let Some(lock) = try_lock(directory).map_err(|source| self.unusable(directory, source))? else {
            return Err(match container.clone().refresh() {
                Ok(status) if status.state.is_running() => {
                    ContainersError::Running(container.name().to_owned())
                }
                Ok(_) => ContainersError::Busy(container.name().to_owned()),
                Err(_) => not_found(),
            });
        };
        // It may have been changed, or removed, before it was locked.
        let container = Container::read(directory.to_owned()).map_err(|_| not_found())?;
        Ok(Claimed { container, lock })
    }

    /// Gives a container another name, whether it runs or not.
    pub fn rename(&self, container: &Container, name: &str) -> Result<(), ContainersError> {
        if !is_name(name) {
            return Err(ContainersError::BadName(name.to_owned()));
        }
        let _one_at_a_time = self.lock()?;
        self.check_free(name)?;
        let mut container = Container::read(container.directory().to_owned())
            .map_err(|_| ContainersError::NotFound(container.name().to_owned()))?;
        let old = container.name().to_owned();
        container.rename(name).map_err(|source| ContainersError::Write { name: old.clone(), source })?;
        self.events.note(&container, Action::Rename, &[("oldName", &old)]);
        Ok(())
    }

    /// Removes a container and all that is kept of it.
    pub fn remove(&self, claimed: Claimed) -> Result<(), ContainersError> {
        let Claimed { mut container, lock } = claimed;
        let failed = |container: &Container, source| ContainersError::Remove {
            name: container.name().to_owned(),
            source,
        };
        // From here on it is gone for good: whoever finds it half removed goes on with it.
        container
            .update(|status| status.state = State::Removing)
            .and_then(|()| remove_directory(container.directory()))
            .map_err(|source| failed(&container, source))?;
        drop(lock);
        self.events.note(&container, Action::Destroy, &[]);
        Ok(())
    }

    /// The container in `directory` if there is one; cleans up what a crash left there.
    fn look(&self, directory: PathBuf) -> Result<Option<Container>, ContainersError> {
        match Container::read(directory.clone()) {
            Ok(container) => match container.status().supervisor {
                Some(process) if ProcessId::of(process.pid).ok() != Some(process) => self.settle(directory),
                _ => Ok(Some(container)),
            },
            // It is just being made or removed, or that was broken off.
            Err(_) => self.settle(directory),
        }
    }

    /// Says what became of a container whose supervisor is not there, or removes what is none.
    fn settle(&self, directory: PathBuf) -> Result<Option<Container>, ContainersError> {
        // Its VM is to be gone before anyone thinks it is.
        self.state.sweep()?;
        let _one_at_a_time = self.lock()?;
        let Some(lock) = try_lock(&directory).map_err(|source| self.unusable(&directory, source))? else {
            // Somebody is at it, perhaps since a moment ago.
            return Ok(Container::read(directory).ok());
        };
        let Ok(mut container) = Container::read(directory.clone()) else {
            return match remove_directory(&directory) {
                Ok(()) => Ok(None),
                Err(source) => Err(self.unusable(&directory, source)),
            };
        };
        let status = container.status().clone();
        if status.supervisor.is_none() {
            return Ok(Some(container));
        }
        if status.state.is_running() {
            self.events.note(&container, Action::Die, &[("exitCode", &CRASHED.to_string())]);
        }
        if container.config().auto_remove || status.state == State::Removing {
            self.remove(Claimed { container, lock })?;
            return Ok(None);
        }
        let settled = container.update(|status| {
            status.supervisor = None;
            status.health = None;
            if status.state.is_running() {
                status.state = State::Exited;
                status.exit_code = CRASHED;
                status.error = "its supervisor was killed, and the container with it".to_owned();
                status.finished = Some(Timestamp::now());
            }
        });
        settled.map_err(|source| ContainersError::Write { name: container.name().to_owned(), source })?;
        Ok(Some(container))
    }

    fn check_free(&self, name: &str) -> Result<(), ContainersError> {
        for directory in self.directories()? {
            if let Ok(taken) = Named::read(&directory)
                && taken.name == name
            {
                return Err(ContainersError::NameTaken { name: name.to_owned(), id: taken.id });
            }
        }
        Ok(())
    }

    fn directories(&self) -> Result<Vec<PathBuf>, ContainersError> {
        fs::read_dir(&self.directory)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>())
            .map_err(|source| self.unusable(&self.directory, source))
    }

    /// Held while a name or a directory is given or taken.
    fn lock(&self) -> Result<File, ContainersError> {
        File::open(&self.directory)
            .and_then(|directory| {
                rustix::io::retry_on_intr(|| flock(&directory, FlockOperation::LockExclusive))?;
                Ok(directory)
            })
            .map_err(|source| self.unusable(&self.directory, source))
    }

    fn unusable(&self, path: &Path, source: io::Error) -> ContainersError {
        ContainersError::Directory { path: path.to_owned(), source }
    }
}

impl Claimed {
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// Lets go of a container that is to stay as it is.
    pub fn release(mut self) -> Result<Container, ContainersError> {
        let released = self.container.update(|status| status.supervisor = None);
        match released {
            Ok(()) => Ok(self.container),
            Err(source) => Err(ContainersError::Write { name: self.container.name().to_owned(), source }),
        }
    }
}

/// The lock of a container's directory; `None` when another process has it, or the directory is gone.
fn try_lock(directory: &Path) -> io::Result<Option<File>> {
    let lock = match File::open(directory) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(lock)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn remove_directory(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
