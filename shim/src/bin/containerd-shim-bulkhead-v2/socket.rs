//! The socket a shim serves on: one for each pod, found by all who know containerd's address, namespace and the pod's id.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ring::digest::{SHA256, digest};
use rustix::fs::{FlockOperation, Mode, flock};

use crate::arguments::Arguments;

/// containerd's own choice; short, as a socket's address is (unix(7)).
const DIRECTORY: &str = "/run/containerd/s";

/// The file in a bundle that tells containerd 1.x, and us, where its shim serves.
pub(crate) const ADDRESS_FILE: &str = "address";

#[derive(Debug)]
pub(crate) enum Claimed {
    /// Nobody serves: here is where to.
    New(UnixListener),
    /// Another shim does.
    Served,
}

/// The socket's name, while others are to find it.
#[derive(Debug, Default)]
pub(crate) struct Listening(Mutex<Option<PathBuf>>);

#[derive(Debug, thiserror::Error)]
#[error("cannot make the socket {}", path.display())]
pub(crate) struct SocketError {
    path: PathBuf,
    source: io::Error,
}

impl Listening {
    pub(crate) fn at(path: Option<PathBuf>) -> Self {
        Self(Mutex::new(path))
    }

    /// Removes the name, once: what has it later is another's.
    pub(crate) fn withdraw(&self) {
        if let Some(path) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // containerd's own clean-up may have come first.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The path for a pod, or a container that is none of a pod.
pub(crate) fn path(directory: Option<&Path>, arguments: &Arguments, group: &str) -> PathBuf {
    if !arguments.socket.as_os_str().is_empty() {
        return arguments.socket.clone();
    }
    let whole = clean(&Path::new(&arguments.address).join(&arguments.namespace).join(group));
    let name: String = digest(&SHA256, whole.as_os_str().as_encoded_bytes())
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    directory.unwrap_or(Path::new(DIRECTORY)).join(name)
}

pub(crate) fn address(path: &Path) -> String {
    format!("unix://{}", path.display())
}

/// The path in an address.
pub(crate) fn path_of(address: &str) -> Option<PathBuf> {
    let path = Path::new(address.trim().strip_prefix("unix://")?);
    path.is_absolute().then(|| path.to_owned())
}

/// Listens, unless somebody does already.
pub(crate) fn claim(path: &Path) -> Result<Claimed, SocketError> {
    try_claim(path).map_err(|source| SocketError { path: path.to_owned(), source })
}

fn try_claim(path: &Path) -> io::Result<Claimed> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let held = match File::open(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            File::open(directory)?
        }
        opened => opened?,
    };
    // A socket is there before it listens, and one that is left over is removed: neither is for others to see.
    rustix::io::retry_on_intr(|| flock(&held, FlockOperation::LockExclusive))?;
    let listener = match bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if UnixStream::connect(path).is_ok() {
                return Ok(Claimed::Served);
            }
            std::fs::remove_file(path)?;
            bind(path)?
        }
        bound => bound?,
    };
    Ok(Claimed::New(listener))
}

/// For its owner alone.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let before = rustix::process::umask(Mode::RWXG | Mode::RWXO | Mode::XUSR);
    let bound = UnixListener::bind(path);
    rustix::process::umask(before);
    bound
}

/// As Go's filepath.Join leaves a path, which is what containerd's shims hash: without empty parts and dots.
fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                cleaned.pop();
            }
            part => cleaned.push(part),
        }
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn arguments() -> Arguments {
        Arguments {
            address: "/run/containerd/containerd.sock".to_owned(),
            namespace: "default".to_owned(),
            ..Arguments::default()
        }
    }

    #[test]
    fn the_path_is_the_one_containerds_own_shims_have() {
        // sha256("/run/containerd/containerd.sock/default/c1")
        let path = path(None, &arguments(), "c1");
        assert_eq!(path.parent(), Some(Path::new(DIRECTORY)));
        let name = "d25aa4ef11a84e954e74a5bcff06557d0b6ea8d0c00243896f29826694bbd888";
        assert_eq!(path.file_name().unwrap(), name);
        assert_eq!(path_of(&address(&path)), Some(path));
        let doubled = Arguments { address: "/run//containerd/./containerd.sock".to_owned(), ..arguments() };
        assert_eq!(super::path(None, &doubled, "c1"), super::path(None, &arguments(), "c1"));
    }

    #[test]
    fn one_serves_and_what_is_left_over_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/s");
        let Claimed::New(listener) = claim(&path).unwrap() else { panic!("nobody served") };
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(claim(&path).unwrap(), Claimed::Served));
        drop(listener);
        assert!(matches!(claim(&path).unwrap(), Claimed::New(_)));
    }

    #[test]
    fn a_name_is_withdrawn_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let Claimed::New(_first) = claim(&path).unwrap() else { panic!("nobody served") };
        let listening = Listening::at(Some(path.clone()));
        listening.withdraw();
        // Before the first is gone, a second one serves.
        let Claimed::New(_second) = claim(&path).unwrap() else { panic!("the name was withdrawn") };
        listening.withdraw();
        assert!(path.exists());
    }
}
