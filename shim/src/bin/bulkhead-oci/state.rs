//! What is known of containers: a directory for each below `--root`, with its state in it and its supervisor's socket.
//!
//! The state is written by whoever brings it about, always as a whole. A container whose supervisor is gone is stopped,
//! whatever is written.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use oci_spec::runtime::Hooks;
use sandbox::ProcessId;
use serde::{Deserialize, Serialize};
use shim::{IdError, check_id};

use crate::args::SPEC_VERSION;

const STATE: &str = "state.json";

/// Where containers' directories are.
#[derive(Debug, Clone)]
pub(crate) struct Root(PathBuf);

/// As the OCI runtime specification calls them (runtime.md, "State"), and runc.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

/// A container, as its directory has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Container {
    pub id: String,
    pub status: Status,
    pub supervisor: ProcessId,
    /// The container whose supervisor has the virtual machine.
    pub pod: String,
    /// Absolute, as all paths.
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    /// Which its supervisor, and who executes further processes, enters.
    pub cgroup: Option<PathBuf>,
    pub created: Timestamp,
    pub annotations: BTreeMap<String, String>,
    pub hooks: Option<Hooks>,
}

/// What `state` prints and hooks read, in runc's order.
#[derive(Debug, Serialize)]
pub(crate) struct Printed<'a> {
    #[serde(rename = "ociVersion")]
    oci_version: &'static str,
    id: &'a str,
    /// 0 for one that is stopped.
    pid: u32,
    status: Status,
    bundle: &'a Path,
    rootfs: &'a Path,
    created: Timestamp,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    owner: &'static str,
}

/// In runc's words, by which its callers know them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error(transparent)]
    Id(#[from] IdError),
    #[error("container with given ID already exists: {0}")]
    Exists(String),
    #[error("container does not exist: {0}")]
    NotFound(String),
    #[error("cannot use the root directory {}", path.display())]
    Root { path: PathBuf, source: io::Error },
    #[error("cannot use the state of container {id}")]
    Use { id: String, source: io::Error },
    #[error("the state of container {id} is damaged")]
    Damaged { id: String, source: serde_json::Error },
}

impl Root {
    /// `--root`, or else where runc would have its own. It need not be there yet.
    pub(crate) fn find(wanted: Option<&Path>) -> Result<Self, StateError> {
        let path = wanted.map_or_else(default_root, Path::to_owned);
        match std::path::absolute(&path) {
            Ok(path) => Ok(Self(path)),
            Err(source) => Err(StateError::Root { path, source }),
        }
    }

    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn directory(&self, id: &str) -> PathBuf {
        self.0.join(id)
    }

    /// Makes a container's directory, which makes its id unique.
    pub(crate) fn claim(&self, id: &str) -> Result<(), StateError> {
        check_id(id)?;
        let private = |recursive| {
            let mut builder = DirBuilder::new();
            builder.mode(0o700).recursive(recursive);
            builder
        };
        private(true).create(&self.0).map_err(|source| StateError::Root { path: self.0.clone(), source })?;
        private(false).create(self.directory(id)).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => StateError::Exists(id.to_owned()),
            _ => StateError::Use { id: id.to_owned(), source },
        })
    }

    pub(crate) fn load(&self, id: &str) -> Result<Container, StateError> {
        check_id(id)?;
        let mut text = Vec::new();
        let read =
            File::open(self.directory(id).join(STATE)).and_then(|mut file| file.read_to_end(&mut text));
        read.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => StateError::NotFound(id.to_owned()),
            _ => StateError::Use { id: id.to_owned(), source },
        })?;
        serde_json::from_slice(&text).map_err(|source| StateError::Damaged { id: id.to_owned(), source })
    }

    /// All that are whole, by id.
    pub(crate) fn all(&self) -> Result<Vec<Container>, StateError> {
        let failed = |source| StateError::Root { path: self.0.clone(), source };
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut containers = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            // One that is just being made or removed is no container yet, or no more.
            containers.extend(name.to_str().and_then(|id| self.load(id).ok()));
        }
        containers.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(containers)
    }

    /// Readers see the state before, or this one.
    pub(crate) fn store(&self, container: &Container) -> Result<(), StateError> {
        let id = &container.id;
        let encoded =
            serde_json::to_vec(container).map_err(|source| StateError::Damaged { id: id.clone(), source })?;
        let state = self.directory(id).join(STATE);
        // Two processes may write at the same time.
        let beside = self.directory(id).join(format!(".{STATE}.{}", std::process::id()));
        let written = fs::write(&beside, encoded).and_then(|()| fs::rename(&beside, &state));
        written.map_err(|source| StateError::Use { id: id.clone(), source })
    }

    /// Goes on to a status, from one of those it can be reached from; another stays as it is.
    pub(crate) fn advance(&self, id: &str, from: &[Status], to: Status) -> Result<(), StateError> {
        let mut container = self.load(id)?;
        if from.contains(&container.status) {
            container.status = to;
            self.store(&container)?;
        }
        Ok(())
    }

    /// Removes all that is known of a container; there may be nothing.
    pub(crate) fn remove(&self, id: &str) -> Result<(), StateError> {
        check_id(id)?;
        match fs::remove_dir_all(self.directory(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(|source| StateError::Use { id: id.to_owned(), source }),
        }
    }
}

fn default_root() -> PathBuf {
    const NAME: &str = "bulkhead-oci";
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    match runtime {
        Some(runtime) if !rustix::process::geteuid().is_root() => runtime.join(NAME),
        _ => Path::new("/run").join(NAME),
    }
}

impl Container {
    /// As things are now.
    pub(crate) fn status(&self) -> Status {
        if lives(self.supervisor) { self.status } else { Status::Stopped }
    }

    pub(crate) fn printed(&self) -> Printed<'_> {
        let status = self.status();
        Printed {
            oci_version: SPEC_VERSION,
            id: &self.id,
            pid: if status == Status::Stopped { 0 } else { self.supervisor.pid },
            status,
            bundle: &self.bundle,
            rootfs: &self.rootfs,
            created: self.created,
            annotations: &self.annotations,
            owner: "",
        }
    }

    /// What its hooks read.
    pub(crate) fn for_hooks(&self) -> Vec<u8> {
        serde_json::to_vec(&self.printed()).unwrap_or_default()
    }
}

impl Printed<'_> {
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.pad(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// Whether the very process runs still. One that has ended but was not waited for yet does not.
pub(crate) fn lives(process: ProcessId) -> bool {
    if ProcessId::of(process.pid).ok() != Some(process) {
        return false;
    }
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid)).unwrap_or_default();
    // What follows the name is field 3, the state (proc(5)).
    let state = stat.rsplit_once(") ").and_then(|(_, fields)| fields.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    pub(crate) fn container(id: &str) -> Container {
        Container {
            id: id.to_owned(),
            status: Status::Running,
            supervisor: ProcessId::of(std::process::id()).unwrap(),
            pod: id.to_owned(),
            bundle: PathBuf::from("/b"),
            rootfs: PathBuf::from("/b/rootfs"),
            cgroup: None,
            created: Timestamp::UNIX_EPOCH,
            annotations: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            hooks: None,
        }
    }

    fn root() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::at(directory.path().join("root"));
        (directory, root)
    }

    #[test]
    fn an_id_is_taken_until_it_is_removed() {
        let (_directory, root) = root();
        root.claim("web").unwrap();
        let told = root.claim("web").unwrap_err().to_string();
        assert!(told.starts_with("container with given ID already exists"), "{told}");
        assert!(matches!(root.load("web"), Err(StateError::NotFound(_))));
        assert!(root.all().unwrap().is_empty());
        root.store(&container("web")).unwrap();
        assert_eq!(root.load("web").unwrap(), container("web"));
        root.remove("web").unwrap();
        root.remove("web").unwrap();
        assert!(root.load("web").unwrap_err().to_string().starts_with("container does not exist"));
        root.claim("web").unwrap();
    }

    #[test]
    fn an_id_cannot_lead_out_of_the_root() {
        let (_directory, root) = root();
        for id in ["", "..", "a/b", "../x"] {
            assert!(matches!(root.claim(id), Err(StateError::Id(_))));
            assert!(matches!(root.load(id), Err(StateError::Id(_))));
            assert!(matches!(root.remove(id), Err(StateError::Id(_))));
        }
    }

    #[test]
    fn what_a_reader_sees_is_whole() {
        let (_directory, root) = root();
        root.claim("web").unwrap();
        let mut long = container("web");
        long.annotations = (0..2000).map(|n| (n.to_string(), "x".repeat(50))).collect();
        root.store(&long).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..100 {
                    root.store(&container("web")).unwrap();
                    root.store(&long).unwrap();
                }
                done.store(true, Ordering::Relaxed);
            });
            while !done.load(Ordering::Relaxed) {
                root.load("web").unwrap();
            }
        });
        assert_eq!(fs::read_dir(root.directory("web")).unwrap().count(), 1);
    }

    #[test]
    fn a_container_goes_on_only_from_where_it_is() {
        let (_directory, root) = root();
        root.claim("web").unwrap();
        root.store(&container("web")).unwrap();
        root.advance("web", &[Status::Created], Status::Running).unwrap();
        root.advance("web", &[Status::Running], Status::Paused).unwrap();
        root.advance("web", &[Status::Running], Status::Stopped).unwrap();
        assert_eq!(root.load("web").unwrap().status, Status::Paused);
    }

    #[test]
    fn one_whose_supervisor_is_gone_is_stopped_even_before_it_is_waited_for() {
        let mut child = Command::new("true").spawn().unwrap();
        let supervisor = ProcessId::of(child.id()).unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let ended = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(rustix::process::WaitId::Pid(pid), ended).unwrap();
        let dead = Container { supervisor, ..container("web") };
        assert_eq!((dead.status(), dead.printed().pid), (Status::Stopped, 0));
        child.wait().unwrap();
        assert_eq!(dead.status(), Status::Stopped);
        assert_eq!(container("web").status(), Status::Running);
    }

    #[test]
    fn it_is_printed_as_runc_prints_it() {
        let web = container("web");
        let printed = serde_json::to_string(&web.printed()).unwrap();
        let pid = std::process::id();
        let expected = format!(
            r#"{{"ociVersion":"1.2.0","id":"web","pid":{pid},"status":"running","bundle":"/b","rootfs":"/b/rootfs","created":"1970-01-01T00:00:00Z","annotations":{{"a":"b"}},"owner":""}}"#
        );
        assert_eq!(printed, expected);
    }
}
