//! Paths of a container, resolved so that no symbolic link leads out of its root file system.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, open, openat2};
use rustix::io::Errno;

/// A root file system, seen from outside.
pub(super) struct InRoot {
    root: OwnedFd,
}

impl InRoot {
    /// The root file system mounted at `path`.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { root: rustix::fs::openat(CWD, path, flags, Mode::empty())? })
    }

    /// Opens a file for reading, following links as a process of the container would.
    pub(super) fn file(&self, path: &Path) -> io::Result<File> {
        // Without O_NONBLOCK, opening a fifo an image left in a file's place would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        Ok(self.resolve(path, flags)?.into())
    }

    /// Makes the directory and those above it that are missing, owned by root, mode 0755, as Docker does for a
    /// working directory the image lacks.
    pub(super) fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if self.resolve(path, flags).is_ok() {
            return Ok(());
        }
        let mut parent = self.resolve(Path::new("/"), flags)?;
        let mut reached = Path::new("/").to_path_buf();
        for component in path.components().filter(|component| *component != Component::RootDir) {
            reached.push(component);
            parent = match self.resolve(&reached, flags) {
                Err(Errno::NOENT) => {
                    mkdirat(&parent, Path::new(&component), Mode::from_raw_mode(0o755))?;
                    self.resolve(&reached, flags)?
                }
                result => result?,
            };
        }
        Ok(())
    }

    /// Where a path leads, without links; `None` if there is nothing, or no telling.
    pub(super) fn real_path(&self, path: &Path) -> Option<PathBuf> {
        let found = self.resolve(path, OFlags::PATH | OFlags::CLOEXEC).ok()?;
        let place = |fd: &OwnedFd| fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok();
        let below_root = place(&found)?.strip_prefix(place(&self.root)?).ok()?.to_owned();
        Some(Path::new("/").join(below_root))
    }

    /// Opens what the path leads to.
    pub(super) fn resolve(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.root, path, flags, Mode::empty(), resolve)
    }
}

/// Opens /dev/null, for a stdio the host gave no stream.
pub(super) fn dev_null() -> io::Result<OwnedFd> {
    Ok(open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_stay_inside() {
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(outside.path().join("passwd"), "outside").unwrap();
        fs::write(root.join("passwd"), "inside").unwrap();
        symlink("../../passwd", root.join("etc/passwd")).unwrap();
        symlink("/..", root.join("up")).unwrap();
        let in_root = InRoot::open(&root).unwrap();

        let mut text = String::new();
        in_root.file(Path::new("/etc/passwd")).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "inside");
        in_root.create_dir_all(Path::new("/up/a/b")).unwrap();
        assert!(root.join("a/b").is_dir());
        assert!(!outside.path().join("a").exists());
    }

    #[test]
    fn a_directory_cannot_be_made_of_a_file() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        let in_root = InRoot::open(root.path()).unwrap();
        assert!(in_root.create_dir_all(Path::new("/file/dir")).is_err());
    }
}
