//! One container, as its directory had it when it was looked at.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::id;
use crate::origin::Origin;
use crate::record;
use crate::status::Status;

const CONFIG: &str = "config.json";
/// The name it has by now. Each start looks at those of all others: apart from the rest, that is little to read.
const NAME: &str = "name.json";
const ORIGIN: &str = "origin.json";
pub(crate) const STATUS: &str = "status.json";

/// What is known of a container from outside.
#[derive(Debug, Clone)]
pub struct Container {
    directory: PathBuf,
    config: Config,
    status: Status,
}

impl Container {
    pub(crate) fn new(directory: PathBuf, config: Config) -> Self {
        Self { directory, config, status: Status::default() }
    }

    pub(crate) fn read(directory: PathBuf) -> io::Result<Self> {
        let mut config: Config = record::read(&directory, CONFIG)?;
        if let Ok(name) = record::read(&directory, NAME) {
            config.name = name;
        }
        // The machine may have crashed while it was written.
        let status = record::read(&directory, STATUS).unwrap_or_else(|_| Status::lost());
        Ok(Self { directory, config, status })
    }

    pub fn id(&self) -> &str {
        &self.config.id
    }

    /// The beginning of the id, as people see it.
    pub fn short_id(&self) -> &str {
        id::short(&self.config.id)
    }

    pub fn name(&self) -> &str {
        &self.config.name
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn status(&self) -> &Status {
        &self.status
    }

    /// How the container is by now. Fails once it is removed.
    pub fn refresh(&mut self) -> io::Result<&Status> {
        self.status = record::read(&self.directory, STATUS)?;
        Ok(&self.status)
    }

    /// Where all of it is kept.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its writable disk. Not there for a container that is removed when it ends.
    pub fn disk(&self) -> PathBuf {
        self.directory.join("disk")
    }

    /// What its first run goes on from, if it is a copy that has not been started.
    pub(crate) fn origin(&self) -> Option<Origin> {
        record::read(&self.directory, ORIGIN).ok()
    }

    pub(crate) fn write_origin(&self, origin: &Origin) -> io::Result<()> {
        record::write(&self.directory, ORIGIN, origin, self.is_kept())
    }

    /// From its next run on, it is a container as any other.
    pub(crate) fn forget_origin(&self) -> io::Result<()> {
        std::fs::remove_file(self.directory.join(ORIGIN))
    }

    /// Makes it one: a directory without is none. Should a crash of the machine take the name, that in there holds.
    pub(crate) fn write_config(&self) -> io::Result<()> {
        record::write(&self.directory, NAME, &self.config.name, false)?;
        record::write(&self.directory, CONFIG, &self.config, self.is_kept())
    }

    /// Changes the status, on disk too. Wants the lock.
    pub(crate) fn update(&mut self, change: impl FnOnce(&mut Status)) -> io::Result<()> {
        change(&mut self.status);
        // No run survives a crash of the machine, and so no word of it needs to.
        let kept = self.is_kept() && !self.status.state.is_running();
        record::write(&self.directory, STATUS, &self.status, kept)
    }

    pub(crate) fn rename(&mut self, name: &str) -> io::Result<()> {
        record::write(&self.directory, NAME, &name, self.is_kept())?;
        self.config.name = name.to_owned();
        Ok(())
    }

    /// The same, with the name it has by now: it may be renamed at any time.
    pub(crate) fn named_by_now(&self) -> Self {
        let mut container = self.clone();
        if let Ok(Named { name, .. }) = Named::read(&self.directory) {
            container.config.name = name;
        }
        container
    }

    /// Whether it is there again after a crash of the machine.
    fn is_kept(&self) -> bool {
        !self.config.auto_remove
    }
}

/// What a look for a name needs to read.
pub(crate) struct Named {
    pub(crate) id: String,
    pub(crate) name: String,
}

impl Named {
    pub(crate) fn read(directory: &Path) -> io::Result<Self> {
        // What is just being made has no name yet.
        std::fs::metadata(directory.join(CONFIG))?;
        let id = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match record::read(directory, NAME) {
            Ok(name) => Ok(Self { id, name }),
            Err(_) => Ok(Self { id, name: Container::read(directory.to_owned())?.config.name }),
        }
    }
}
