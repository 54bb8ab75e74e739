//! Files that appear under their name whole, or never.
//!
//! Where the file system can (O_TMPFILE), an unfinished file has no name, and a crash leaves nothing. Elsewhere it has
//! a name that nobody looks for, and holds a lock while its maker lives: the next run removes those without.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};

const PREFIX: &str = ".unfinished-";

/// A file being written.
pub(crate) struct StagedFile {
    file: File,
    directory: PathBuf,
    /// Its name for now, if it has one.
    name: Option<PathBuf>,
}

impl StagedFile {
    /// An empty file on its way into this directory.
    pub(crate) fn new(directory: &Path) -> io::Result<StagedFile> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let directory = directory.to_owned();
        match rustix::fs::open(&directory, flags, Mode::from_raw_mode(0o600)) {
            Ok(file) => Ok(StagedFile { file: file.into(), directory, name: None }),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {
                StagedFile::new_named(directory)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn new_named(directory: PathBuf) -> io::Result<StagedFile> {
        loop {
            let mut number = [0; 8];
            rustix::rand::getrandom(&mut number, rustix::rand::GetRandomFlags::empty())?;
            let name = directory.join(format!("{PREFIX}{:016x}", u64::from_ne_bytes(number)));
            let file = OpenOptions::new().read(true).write(true).create_new(true).open(&name)?;
            rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
            // Another's sweep may have come between making and locking.
            if file.metadata()?.nlink() > 0 {
                return Ok(StagedFile { file, directory, name: Some(name) });
            }
        }
    }

    /// Another handle to the file, to write it with.
    pub(crate) fn handle(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Gives the file its name, read-only. What has that name already stays: it is the same layer.
    pub(crate) fn publish(self, path: &Path) -> io::Result<()> {
        self.file.set_permissions(Permissions::from_mode(0o444))?;
        self.file.sync_all()?;
        let linked = match &self.name {
            Some(name) => rustix::fs::link(name, path),
            None => {
                let open = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                rustix::fs::linkat(CWD, open, CWD, path, AtFlags::SYMLINK_FOLLOW)
            }
        };
        match linked {
            Ok(()) | Err(rustix::io::Errno::EXIST) => File::open(&self.directory)?.sync_all(),
            Err(error) => Err(error.into()),
        }
    }
}

/// Writes a small file in one step, in place of what has that name. Until then it is beside it.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut staged = StagedFile::new_named(directory.to_owned())?;
    staged.file.write_all(content)?;
    staged.file.sync_all()?;
    if let Some(name) = staged.name.take() {
        std::fs::rename(&name, path).inspect_err(|_| staged.name = Some(name.clone()))?;
    }
    File::open(directory)?.sync_all()
}

/// Makes directories so that they outlast a crash.
pub(crate) fn create_directories(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_directories(parent)?;
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => File::open(parent)?.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // Left behind, the next run's sweep finds it.
            let _ = std::fs::remove_file(name);
        }
    }
}

/// Removes unfinished files whose makers are gone.
pub(crate) fn sweep(directory: &Path) -> io::Result<()> {
    for entry in directory.read_dir()? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        // It may be gone by now, and that is as well.
        let Ok(file) = File::open(entry.path()) else { continue };
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        directory.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_appears_when_published_and_not_before() {
        for make in [StagedFile::new, |directory: &Path| StagedFile::new_named(directory.to_owned())] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("name");
            for content in ["first", "second"] {
                let staged = make(directory.path()).unwrap();
                staged.handle().unwrap().write_all(content.as_bytes()).unwrap();
                assert!(!path.exists() || content == "second");
                staged.publish(&path).unwrap();
            }
            assert_eq!(std::fs::read(&path).unwrap(), b"first");
            drop(make(directory.path()).unwrap());
            assert_eq!(names(directory.path()), ["name"]);
        }
    }

    #[test]
    fn a_sweep_removes_what_a_crash_left_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let living = StagedFile::new_named(directory.path().to_owned()).unwrap();
        std::fs::write(directory.path().join(".unfinished-0"), "left by a crash").unwrap();
        std::fs::write(directory.path().join("layer"), "").unwrap();
        sweep(directory.path()).unwrap();
        let mut left = names(directory.path());
        left.sort();
        assert_eq!(left.len(), 2, "{left:?}");
        assert_eq!(left[1], "layer");
        drop(living);
        assert_eq!(names(directory.path()), ["layer"]);
    }
}
