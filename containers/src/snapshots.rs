//! Snapshots that users keep: copies of containers as they ran, by name.
//!
//! ```text
//! SNAPSHOTS/NAME/about.json             what to tell a person, and what a container that goes on from it is
//!                state, memory, disk    its files (sandbox::SnapshotFiles)
//!           .making-XXXXXX/             one in the making, locked (flock(2)); one that can be locked is a dead maker's
//! ```

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::{FlockOperation, RenameFlags, flock, renameat_with};
use sandbox::SnapshotFiles;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::name::is_name;
use crate::record;

const MAKING: &str = ".making-";
const ABOUT: &str = "about.json";

/// All snapshots of a data directory.
#[derive(Debug, Clone)]
pub struct Snapshots {
    directory: PathBuf,
}

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    pub name: String,
    pub about: About,
    pub files: SnapshotFiles,
}

/// What there is to know of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct About {
    pub created: Timestamp,
    /// Of the container it was taken of, as it was.
    pub container: Config,
    /// The host's processor, as [`sandbox::host::processor`] tells it: no other one is sure to go on with it.
    pub processor: String,
    /// How long the container stood still for it, in ns.
    pub stood: u64,
}

/// One in the making, which goes with this value unless it is finished.
pub struct Making {
    _lock: File,
    directory: PathBuf,
    destination: PathBuf,
    name: String,
    finished: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum SnapshotsError {
    #[error("cannot use the directory of snapshots, {}", .path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("no snapshot has the name {0:?}; `bulkhead snapshot ls` lists those there are")]
    NotFound(String),
    #[error("there is a snapshot {0:?} already; remove it, or take another name")]
    Exists(String),
    #[error(
        "a snapshot cannot be named {0:?}: two or more letters, digits, '_', '.' and '-', a letter or digit first"
    )]
    BadName(String),
    #[error(
        "snapshot {name} was taken on another processor ({taken}; this is {here}), and cannot go on here"
    )]
    OtherProcessor { name: String, taken: String, here: String },
    #[error("cannot tell what processor this is")]
    Processor(#[source] io::Error),
    #[error("cannot read what is known of snapshot {name}")]
    About { name: String, source: io::Error },
}

impl Snapshots {
    pub fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Newest first.
    pub fn list(&self) -> Result<Vec<Snapshot>, SnapshotsError> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|source| self.unusable(source))?,
        };
        // One that goes meanwhile, or is in the making, is none.
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut found: Vec<_> = names.filter_map(|name| self.find(&name).ok()).collect();
        found.sort_by(|a, b| (b.about.created, &b.name).cmp(&(a.about.created, &a.name)));
        Ok(found)
    }

    pub fn find(&self, name: &str) -> Result<Snapshot, SnapshotsError> {
        let directory = self.directory.join(name);
        if !is_name(name) || !directory.is_dir() {
            return Err(SnapshotsError::NotFound(name.to_owned()));
        }
        let about = record::read(&directory, ABOUT)
            .map_err(|source| SnapshotsError::About { name: name.to_owned(), source })?;
        Ok(Snapshot { name: name.to_owned(), about, files: SnapshotFiles::at(directory) })
    }

    /// One that can go on on this host.
    pub fn find_usable(&self, name: &str) -> Result<Snapshot, SnapshotsError> {
        let snapshot = self.find(name)?;
        let here = sandbox::host::processor().map_err(SnapshotsError::Processor)?;
        if snapshot.about.processor != here {
            let taken = snapshot.about.processor;
            return Err(SnapshotsError::OtherProcessor { name: snapshot.name, taken, here });
        }
        Ok(snapshot)
    }

    /// Containers that went on from it keep what they have of it.
    pub fn remove(&self, name: &str) -> Result<(), SnapshotsError> {
        if !is_name(name) {
            return Err(SnapshotsError::NotFound(name.to_owned()));
        }
        match fs::remove_dir_all(self.directory.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(SnapshotsError::NotFound(name.to_owned()))
            }
            removed => removed.map_err(|source| self.unusable(source)),
        }
    }

    /// Begins one of that name.
    pub fn make(&self, name: &str) -> Result<Making, SnapshotsError> {
        if !is_name(name) {
            return Err(SnapshotsError::BadName(name.to_owned()));
        }
        let destination = self.directory.join(name);
        if destination.exists() {
            return Err(SnapshotsError::Exists(name.to_owned()));
        }
        let begun = self.begin().map_err(|source| self.unusable(source));
        begun.map(|(lock, directory)| Making {
            _lock: lock,
            directory,
            destination,
            name: name.to_owned(),
            finished: false,
        })
    }

    fn begin(&self) -> io::Result<(File, PathBuf)> {
        DirBuilder::new().mode(0o700).recursive(true).create(&self.directory)?;
        // Held until the new one is locked, lest it be taken for a dead maker's.
        let one_at_a_time = File::open(&self.directory)?;
        rustix::io::retry_on_intr(|| flock(&one_at_a_time, FlockOperation::LockExclusive))?;
        self.tidy()?;
        let directory = self.directory.join(format!("{MAKING}{}", crate::id::short(&crate::id::random()?)));
        DirBuilder::new().mode(0o700).create(&directory)?;
        let lock = File::open(&directory)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok((lock, directory))
    }

    /// Removes what dead makers left.
    fn tidy(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)?.flatten() {
            // One that goes meanwhile is nothing to see to.
            if entry.file_name().to_string_lossy().starts_with(MAKING)
                && let Ok(lock) = File::open(entry.path())
                && flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
            {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(())
    }

    fn unusable(&self, source: io::Error) -> SnapshotsError {
        SnapshotsError::Directory { path: self.directory.clone(), source }
    }
}

impl Making {
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The files are whole, and stay.
    pub fn finish(self, container: Config, stood: Duration) -> Result<Snapshot, SnapshotsError> {
        let processor = sandbox::host::processor().map_err(SnapshotsError::Processor)?;
        let stood = u64::try_from(stood.as_nanos()).unwrap_or(u64::MAX);
        self.finish_as(About { created: Timestamp::now(), container, processor, stood })
    }

    /// With what is known of it from elsewhere.
    pub fn finish_as(mut self, about: About) -> Result<Snapshot, SnapshotsError> {
        let snapshot = self.put_in_place(about).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => SnapshotsError::Exists(self.name.clone()),
            _ => SnapshotsError::Directory { path: self.destination.clone(), source },
        })?;
        self.finished = true;
        Ok(snapshot)
    }

    fn put_in_place(&self, about: About) -> io::Result<Snapshot> {
        for file in fs::read_dir(&self.directory)? {
            File::open(file?.path())?.sync_all()?;
        }
        record::write(&self.directory, ABOUT, &about, true)?;
        let here = rustix::fs::CWD;
        renameat_with(here, &self.directory, here, &self.destination, RenameFlags::NOREPLACE)?;
        let files = SnapshotFiles::at(self.destination.clone());
        Ok(Snapshot { name: self.name.clone(), about, files })
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if !self.finished {
            // What cannot be removed now goes with the next one that is made.
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}
