//! Names in an archive, followed below a directory of this machine without ever leaving it: one component at a
//! time, and through no symbolic link.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;

/// For directories the archive has no entry for.
const MODE: Mode = Mode::from_raw_mode(0o755);

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The components of an entry's name; `None` for one that climbs out or is absolute.
pub(super) fn components(name: &[u8]) -> Option<Vec<OsString>> {
    let path = Path::new(OsStr::from_bytes(name));
    let mut components = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) if !name.as_bytes().contains(&0) => components.push(name.to_owned()),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(components)
}

/// The directory an entry goes into, made where it is missing.
pub(super) fn directory(root: &OwnedFd, above: &[OsString]) -> io::Result<OwnedFd> {
    let mut directory = root.as_fd().try_clone_to_owned()?;
    for name in above {
        directory = match openat(&directory, name, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => {
                match mkdirat(&directory, name, MODE) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                openat(&directory, name, DIRECTORY, Mode::empty())
            }
            opened => opened,
        }
        .map_err(not_through_links)?;
    }
    Ok(directory)
}

/// A directory that is an entry itself; `Err` of kind `NotFound` if it is not there.
pub(super) fn open_directory(parent: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    openat(parent, name, DIRECTORY, Mode::empty()).map_err(not_through_links)
}

fn not_through_links(error: Errno) -> io::Error {
    match error {
        // With NOFOLLOW and DIRECTORY, a symbolic link is not a directory (open(2)).
        Errno::LOOP | Errno::NOTDIR => io::Error::new(
            io::ErrorKind::NotADirectory,
            "there is a file or a symbolic link in its way, and links are not followed",
        ),
        error => error.into(),
    }
}

/// For messages.
pub(super) fn shown(components: &[OsString]) -> PathBuf {
    components.iter().collect()
}
