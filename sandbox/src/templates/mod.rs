//! Templates: VMs that were booted once, up to an agent that waits for its first call, and are kept for sandboxes to go
//! on from. They hold nothing of any tenant.
//!
//! ```text
//! STATE/.templates/           locked (flock(2)) by who makes or removes one
//!     KEY/memory              the guest's memory, sparse
//!     KEY/state               what else a VM is (vmm_api::StateFile)
//!     KEY/about.json          what to tell a person
//!     KEY/written.json        the pages a start writes, once one has been seen
//!     .making-XXXXXX/         one in the making; whoever has the lock and finds one, finds a dead one
//! ```
//!
//! The state directory is memory (tmpfs), as a rule; on anything else templates would cost disk writes, and are not made.

mod key;
mod working_set;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, flock, fstatfs, fstatvfs};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use vmm_api::Place;

pub(crate) use key::{Shape, key};
pub(crate) use working_set::{Learning, WorkingSet};

use crate::record::StateDir;
use crate::{disks, network, shares};

/// What a template of so many vCPUs has places for, beside what every VM has: what nearly every sandbox is given sooner or
/// later.
pub(crate) fn places(vcpus: u8) -> impl Iterator<Item = Place> {
    disks::places().into_iter().chain([network::place(vcpus), shares::place()])
}

/// Below the state directory, where no sandbox's name begins with a dot.
const DIRECTORY: &str = ".templates";
const MAKING: &str = ".making-";
const MEMORY: &str = "memory";
const STATE: &str = "state";
const ABOUT: &str = "about.json";

/// Each costs the memory its guest has touched, some 60 MiB; the oldest goes when there are more.
const MOST: usize = 8;

/// What has to be free for another one, in bytes.
const ROOM: u64 = 160 << 20;

/// The templates of one state directory.
#[derive(Debug, Clone)]
pub struct Templates {
    directory: PathBuf,
}

/// What there is to know of a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateInfo {
    /// Names it: 32 hexadecimal digits, of all that shapes it.
    pub key: String,
    pub vcpus: u8,
    /// The guest's, in bytes.
    pub memory: u64,
    /// What it takes of the host's memory, in bytes.
    #[serde(default)]
    pub size: u64,
    /// Seconds since 1970-01-01 UTC.
    pub created: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    #[error("cannot use the directory of templates, {}", .path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("no template has the key {0:?}")]
    NotFound(String),
    #[error("{0:?} is the beginning of more than one template's key")]
    Ambiguous(String),
}

/// What a template gives a sandbox to go on from.
pub(crate) struct Template {
    pub(crate) files: SavedFiles,
    pub(crate) working_set: WorkingSet,
}

/// The files of a saved VM, open for reading, or for the VM to be saved.
pub(crate) struct SavedFiles {
    pub(crate) state: File,
    pub(crate) memory: File,
}

/// Whether there is a template to be made.
pub(crate) enum Attempt {
    Ours(Making),
    /// Somebody else makes one right now, this one or another.
    Theirs,
    /// There is no memory to put it.
    NoRoom,
}

/// A template in the making: the lock on all, and a directory that goes with this value unless it is finished.
pub(crate) struct Making {
    _lock: File,
    directory: tempfile::TempDir,
    destination: PathBuf,
    info: TemplateInfo,
}

impl Templates {
    pub fn of(state: &StateDir) -> Self {
        Self { directory: state.path().join(DIRECTORY) }
    }

    /// Those that are there, oldest first.
    pub fn list(&self) -> Result<Vec<TemplateInfo>, TemplateError> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| self.failed(error))?,
        };
        // One that goes meanwhile, or is in the making, is none.
        let mut found: Vec<_> = entries.flatten().filter_map(|entry| read(&entry.path())).collect();
        found.sort_by(|a, b| (a.created, &a.key).cmp(&(b.created, &b.key)));
        Ok(found)
    }

    /// By key, or the beginning of one.
    pub fn find(&self, wanted: &str) -> Result<TemplateInfo, TemplateError> {
        let mut beginning =
            self.list()?.into_iter().filter(|info| !wanted.is_empty() && info.key.starts_with(wanted));
        match (beginning.next(), beginning.next()) {
            (Some(info), None) => Ok(info),
            (Some(_), Some(_)) => Err(TemplateError::Ambiguous(wanted.to_owned())),
            (None, _) => Err(TemplateError::NotFound(wanted.to_owned())),
        }
    }

    /// Removes one. Sandboxes that went on from it keep what they have of it.
    pub fn remove(&self, key: &str) -> Result<(), TemplateError> {
        // What is half removed is none: the next maker goes on with it.
        let going = self.directory.join(format!("{MAKING}gone-{key}-{}", std::process::id()));
        match fs::rename(self.directory.join(key), &going).and_then(|()| fs::remove_dir_all(&going)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(TemplateError::NotFound(key.to_owned()))
            }
            removed => removed.map_err(|error| self.failed(error)),
        }
    }

    pub(crate) fn open(&self, key: &str) -> io::Result<Template> {
        let directory = self.directory.join(key);
        let files = SavedFiles {
            state: File::open(directory.join(STATE))?,
            memory: File::open(directory.join(MEMORY))?,
        };
        Ok(Template { files, working_set: WorkingSet::of(&directory) })
    }

    /// Begins one.
    pub(crate) fn make(&self, key: &str, shape: Shape) -> io::Result<Attempt> {
        DirBuilder::new().mode(0o700).recursive(true).create(&self.directory)?;
        let lock = File::open(&self.directory)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(Attempt::Theirs),
            locked => locked?,
        }
        let free = fstatvfs(&lock)?;
        if !is_memory(&lock)? || free.f_bavail.saturating_mul(free.f_frsize) < ROOM {
            return Ok(Attempt::NoRoom);
        }
        self.tidy()?;
        let directory = tempfile::Builder::new().prefix(MAKING).tempdir_in(&self.directory)?;
        let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let Shape { vcpus, memory, .. } = shape;
        let info = TemplateInfo { key: key.to_owned(), vcpus, memory, size: 0, created };
        Ok(Attempt::Ours(Making { _lock: lock, directory, destination: self.directory.join(key), info }))
    }

    /// Removes what dead makers left, and the oldest for a new one to have room.
    fn tidy(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(MAKING) {
                // Somebody else may be at it.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let list = self.list().map_err(io::Error::other)?;
        for old in list.iter().take((list.len() + 1).saturating_sub(MOST)) {
            self.remove(&old.key).map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn failed(&self, source: io::Error) -> TemplateError {
        TemplateError::Directory { path: self.directory.clone(), source }
    }
}

impl Making {
    /// The empty files to be filled.
    pub(crate) fn files(&self) -> io::Result<SavedFiles> {
        let create = |name| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create_new(true).mode(0o600);
            options.open(self.directory.path().join(name))
        };
        Ok(SavedFiles { state: create(STATE)?, memory: create(MEMORY)? })
    }

    /// The files are whole: whoever opens the template from here on has them.
    pub(crate) fn finish(self) -> io::Result<()> {
        fs::write(self.directory.path().join(ABOUT), serde_json::to_vec(&self.info)?)?;
        // What is there is of no use, or nobody would make another.
        let _ = fs::remove_dir_all(&self.destination);
        fs::rename(self.directory.path(), &self.destination)
    }
}

fn read(directory: &Path) -> Option<TemplateInfo> {
    use std::os::unix::fs::MetadataExt;

    const BLOCK: u64 = 512;
    let name = directory.file_name()?.to_str()?;
    let mut info: TemplateInfo = serde_json::from_slice(&fs::read(directory.join(ABOUT)).ok()?).ok()?;
    let files = [MEMORY, STATE].map(|file| fs::metadata(directory.join(file)));
    info.size = files.into_iter().flatten().map(|meta| meta.blocks() * BLOCK).sum();
    (info.key == name).then_some(info)
}

fn is_memory(directory: &File) -> io::Result<bool> {
    const TMPFS: u64 = 0x0102_1994;
    Ok(u64::try_from(fstatfs(directory)?.f_type).is_ok_and(|kind| kind == TMPFS))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { vcpus: 2, most_vcpus: 4, memory: 1 << 28 };

    /// In /dev/shm, which is memory.
    fn templates() -> (tempfile::TempDir, Templates) {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let state = StateDir::at(directory.path().join("state")).unwrap();
        (directory, Templates::of(&state))
    }

    fn begin(templates: &Templates, key: &str) -> Making {
        match templates.make(key, SHAPE).unwrap() {
            Attempt::Ours(making) => making,
            _ => panic!("nobody else makes one, and there is room"),
        }
    }

    fn make(templates: &Templates, key: &str) {
        let making = begin(templates, key);
        drop(making.files().unwrap());
        making.finish().unwrap();
    }

    #[test]
    fn a_template_is_there_once_it_is_finished() {
        let (_directory, templates) = templates();
        assert_eq!(templates.list().unwrap(), []);
        let making = begin(&templates, "abc1");
        making.files().unwrap();
        assert!(templates.open("abc1").is_err());
        assert!(matches!(templates.make("abc2", SHAPE).unwrap(), Attempt::Theirs), "one at a time");
        making.finish().unwrap();
        assert!(templates.open("abc1").is_ok());
        make(&templates, "abc2");
        let keys: Vec<_> = templates.list().unwrap().into_iter().map(|info| info.key).collect();
        assert_eq!(keys, ["abc1", "abc2"]);
        assert_eq!(templates.find("abc2").unwrap().vcpus, 2);
        assert!(matches!(templates.find("abc"), Err(TemplateError::Ambiguous(_))));
        templates.remove("abc1").unwrap();
        assert!(matches!(templates.remove("abc1"), Err(TemplateError::NotFound(_))));
        assert!(matches!(templates.find("abc1"), Err(TemplateError::NotFound(_))));
    }

    #[test]
    fn what_a_dead_maker_left_goes_and_so_does_the_oldest() {
        let (_directory, templates) = templates();
        make(&templates, "0");
        let left = templates.directory.join(".making-dead");
        fs::create_dir(&left).unwrap();
        for key in 1..=MOST {
            make(&templates, &key.to_string());
        }
        assert!(!left.exists());
        assert_eq!(templates.list().unwrap().len(), MOST);
    }

    #[test]
    fn one_that_is_not_finished_leaves_nothing() {
        let (_directory, templates) = templates();
        let making = begin(&templates, "abc");
        making.files().unwrap();
        drop(making);
        assert_eq!(fs::read_dir(&templates.directory).unwrap().count(), 0);
    }
}
