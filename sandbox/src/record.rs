//! One directory per sandbox, so that any command can find, finish or clean up what another left.
//!
//! The directory is named after the sandbox, which makes names unique. Its supervisor holds a lock
//! (flock(2)) on it while it lives: a directory that can be locked belongs to nobody any more. Claims and
//! clean-ups lock the directory above, so that no new directory is taken for an abandoned one.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use oci_spec::runtime::Process;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vmm_api::Identity;

use crate::cgroup;
use crate::identity;
use crate::process_id::ProcessId;

const RECORD: &str = "record.json";

/// The longest name of a sandbox, in bytes.
const MAX_NAME: usize = 128;

/// What is known of a sandbox from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub id: String,
    pub name: String,
    /// What the front end calls the image.
    pub image: String,
    pub command: Vec<String>,
    /// The container's own process, for further ones to be modelled on, and its user as the image or the
    /// front end names it.
    pub process: Process,
    pub user: String,
    /// Seconds since 1970-01-01 UTC.
    pub created: u64,
    pub state: State,
    pub supervisor: ProcessId,
    pub vmm: Option<ProcessId>,
    /// What serves the host's files to the guest, where any are shared.
    #[serde(default)]
    pub file_server: Option<ProcessId>,
    /// Whom the VMM runs as, where its supervisor is root.
    pub identity: Option<Identity>,
    /// The cgroup that holds the VMM, where limits were asked for.
    #[serde(default)]
    pub cgroup: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its container does not run yet.
    Starting,
    Running,
    /// Its VM has ended. What it held is yet to be given back, and nobody gets in.
    Ending,
}

/// What a front end says of a sandbox it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Unique on this host; lower-case hexadecimal by custom.
    pub id: String,
    /// Letters, digits, `_`, `.` and `-`, a letter or digit first; unique among living sandboxes.
    pub name: String,
    pub image: String,
    pub command: Vec<String>,
    /// As in [`Record`].
    pub process: Process,
    pub user: String,
}

/// Where the records are.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
}

/// A record this process holds. Dropping it removes the record.
#[derive(Debug)]
pub(crate) struct Claim {
    directory: PathBuf,
    /// Holds the lock; nothing else reads or writes it.
    lock: File,
    record: Record,
}

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("cannot use the state directory {}", .path.display())]
    StateDir { path: PathBuf, source: io::Error },
    #[error("a sandbox named {0:?} exists already")]
    NameTaken(String),
    #[error(
        "a sandbox cannot be named {0:?}: letters, digits, '_', '.' and '-' only, a letter or digit first"
    )]
    BadName(String),
    #[error("cannot write the record of sandbox {name}")]
    Write { name: String, source: io::Error },
    #[error("cannot clean up what sandbox {name} left")]
    CleanUp { name: String, source: io::Error },
    #[error("no sandbox has the name or id {0:?}")]
    NotFound(String),
    #[error("{0:?} is the beginning of more than one sandbox's id")]
    Ambiguous(String),
}

impl StateDir {
    /// The user's own: /run/bulkhead for root; else below $XDG_RUNTIME_DIR, or /tmp.
    pub fn open() -> Result<Self, RecordError> {
        let user = rustix::process::geteuid();
        let path = if user.is_root() {
            PathBuf::from("/run/bulkhead")
        } else {
            match std::env::var_os("XDG_RUNTIME_DIR") {
                Some(runtime) if Path::new(&runtime).is_absolute() => Path::new(&runtime).join("bulkhead"),
                _ => PathBuf::from(format!("/tmp/bulkhead-{}", user.as_raw())),
            }
        };
        Self::at(path)
    }

    /// At `path`, made if absent. A directory of another user, or open to others, is refused.
    pub fn at(path: PathBuf) -> Result<Self, RecordError> {
        let result = DirBuilder::new().mode(0o700).recursive(true).create(&path);
        match result.and_then(|()| check_private(&path)) {
            Ok(()) => Ok(Self { path }),
            Err(source) => Err(RecordError::StateDir { path, source }),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The records of the sandboxes that are alive, oldest first.
    pub fn records(&self) -> Result<Vec<Record>, RecordError> {
        let mut records: Vec<Record> =
            self.directories()?.iter().filter_map(|directory| read(directory).ok()).collect();
        records.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
        Ok(records)
    }

    /// By name, id, or the beginning of an id.
    pub fn find(&self, wanted: &str) -> Result<Record, RecordError> {
        if is_name(wanted)
            && let Ok(record) = read::<Record>(&self.directory_of(wanted))
            && record.state != State::Ending
        {
            return Ok(record);
        }
        let mut records = self.records()?;
        records.retain(|record| record.state != State::Ending);
        if let Some(exact) = records.iter().find(|record| record.id == wanted) {
            return Ok(exact.clone());
        }
        let mut beginning =
            records.into_iter().filter(|record| !wanted.is_empty() && record.id.starts_with(wanted));
        match (beginning.next(), beginning.next()) {
            (Some(record), None) => Ok(record),
            (Some(_), Some(_)) => Err(RecordError::Ambiguous(wanted.to_owned())),
            (None, _) => Err(RecordError::NotFound(wanted.to_owned())),
        }
    }

    /// Cleans up after supervisors that died: ends their VMMs, removes their records. Says whose.
    pub fn sweep(&self) -> Result<Vec<String>, RecordError> {
        let _claims_wait = self.lock()?;
        let mut swept = Vec::new();
        for directory in self.directories()? {
            let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match sweep_one(&directory) {
                Ok(true) => swept.push(name),
                Ok(false) => {}
                Err(source) => return Err(RecordError::CleanUp { name, source }),
            }
        }
        Ok(swept)
    }

    /// Writes the record of a sandbox that this process is about to supervise; waits for one of that name that ends.
    pub(crate) fn claim(&self, label: Label) -> Result<Claim, RecordError> {
        if !is_name(&label.name) {
            return Err(RecordError::BadName(label.name));
        }
        let directory = self.directory_of(&label.name);
        let name = label.name.clone();
        let unclean = |source| RecordError::CleanUp { name: name.clone(), source };
        // Not with the lock, which others want: a VM has to be given back.
        if matches!(read(&directory), Ok(Record { state: State::Ending, .. })) {
            wait_until_let_go(&directory).map_err(unclean)?;
        }
        let _one_at_a_time = self.lock()?;
        // Its supervisor is about to remove it, and began with the record; or it died before it could.
        if read::<Record>(&directory).is_err() {
            wait_until_let_go(&directory).map_err(unclean)?;
        }
        sweep_one(&directory).map_err(unclean)?;
        let identity = identity::free(&self.identities()?);
        match DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(RecordError::NameTaken(name));
            }
            made => made.and_then(|()| Claim::hold(directory, label, identity)),
        }
        .map_err(|source| RecordError::Write { name, source })
    }

    /// The directory of a sandbox by its name, which must be one a record gave.
    pub(crate) fn directory_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Of those whose directories are there.
    pub(crate) fn identities(&self) -> Result<Vec<Identity>, RecordError> {
        /// Every start looks at all of these, and at no more of them.
        #[derive(Deserialize)]
        struct Holder {
            identity: Option<Identity>,
        }
        let directories = self.directories()?;
        let identity = |directory: &PathBuf| read::<Holder>(directory).ok()?.identity;
        Ok(directories.iter().filter_map(identity).collect())
    }

    fn directories(&self) -> Result<Vec<PathBuf>, RecordError> {
        fs::read_dir(&self.path)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>())
            .map(|paths| paths.into_iter().filter(|path| !is_hidden(path) && path.is_dir()).collect())
            .map_err(|source| RecordError::StateDir { path: self.path.clone(), source })
    }

    /// Held for the few file operations of a claim or a clean-up.
    fn lock(&self) -> Result<File, RecordError> {
        File::open(&self.path)
            .and_then(|directory| {
                rustix::io::retry_on_intr(|| flock(&directory, FlockOperation::LockExclusive))?;
                Ok(directory)
            })
            .map_err(|source| RecordError::StateDir { path: self.path.clone(), source })
    }
}

/// Of something else than sandboxes, whose names do not begin with a dot.
fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

impl Claim {
    fn hold(directory: PathBuf, label: Label, identity: Option<Identity>) -> io::Result<Self> {
        let lock = File::open(&directory)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        let record = Record {
            id: label.id,
            name: label.name,
            image: label.image,
            command: label.command,
            process: label.process,
            user: label.user,
            created: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            state: State::Starting,
            supervisor: ProcessId::of(std::process::id())?,
            vmm: None,
            file_server: None,
            identity,
            cgroup: None,
        };
        let claim = Self { directory, lock, record };
        claim.write()?;
        Ok(claim)
    }

    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// Changes the record, on disk too.
    pub(crate) fn update(&mut self, change: impl FnOnce(&mut Record)) -> Result<(), RecordError> {
        change(&mut self.record);
        self.write().map_err(|source| RecordError::Write { name: self.record.name.clone(), source })
    }

    pub(crate) fn directory(&self) -> &File {
        &self.lock
    }

    /// A reader sees the record before or after, never half of it.
    fn write(&self) -> io::Result<()> {
        let new = self.directory.join("record.json.new");
        fs::write(&new, serde_json::to_vec(&self.record)?)?;
        fs::rename(&new, self.directory.join(RECORD))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // What cannot be removed now is swept by the next command: the lock ends with this process.
        if self.record.cgroup.as_deref().is_none_or(|cgroup| cgroup::remove(cgroup).is_ok()) {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// Waits until a sandbox's directory, if it is there, is nobody's any more.
fn wait_until_let_go(directory: &Path) -> io::Result<()> {
    match File::open(directory) {
        Ok(held) => Ok(rustix::io::retry_on_intr(|| flock(&held, FlockOperation::LockExclusive))?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether `directory` was abandoned, and is gone now.
fn sweep_one(directory: &Path) -> io::Result<bool> {
    let lock = match File::open(directory) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    // Without a readable record its supervisor died before it had a VMM.
    if let Ok(Record { vmm, file_server, cgroup, .. }) = read(directory) {
        for process in [vmm, file_server].into_iter().flatten() {
            process.kill()?;
        }
        if let Some(cgroup) = cgroup {
            cgroup::remove(&cgroup)?;
        }
    }
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(true),
    }
}

fn read<T: DeserializeOwned>(directory: &Path) -> io::Result<T> {
    Ok(serde_json::from_slice(&fs::read(directory.join(RECORD))?)?)
}

/// In a directory that everyone may write to, somebody else may have made ours.
fn check_private(path: &Path) -> io::Result<()> {
    let found = rustix::fs::lstat(path)?;
    let is_directory = rustix::fs::FileType::from_raw_mode(found.st_mode) == rustix::fs::FileType::Directory;
    if !is_directory || found.st_uid != rustix::process::geteuid().as_raw() || found.st_mode & 0o077 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it must be a directory of this user that is closed to others (mode 0700)",
        ));
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(allowed)
}
