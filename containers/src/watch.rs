//! Waits for changes of files that others write: inotify(7), no polling.

#![allow(unsafe_code, reason = "registering a descriptor with the runtime is")]

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches one file, and the directory in which another may take its name.
#[derive(Debug)]
pub struct Watch {
    inotify: AsyncFd<OwnedFd>,
    file: PathBuf,
}

impl Watch {
    /// What changes from now on is not missed. Wants a Tokio runtime.
    pub fn new(directory: &Path, file: &str) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE_SELF | WatchFlags::ONLYDIR;
        inotify::add_watch(&inotify, directory, flags)?;
        // SAFETY: an OwnedFd is one descriptor, open until it is dropped, which only the AsyncFd does.
        let inotify = unsafe { AsyncFd::register_with_interest(inotify, Interest::READABLE) }?;
        let watch = Self { inotify, file: directory.join(file) };
        watch.watch_file()?;
        Ok(watch)
    }

    /// Waits for the next change, or what may be one.
    pub async fn changed(&mut self) -> io::Result<()> {
        let mut events = [0; 4096];
        loop {
            let mut ready = self.inotify.readable().await?;
            let read = ready.try_io(|inotify| Ok(rustix::io::read(inotify, &mut events[..])?));
            // An error here means: not ready after all.
            if let Ok(read) = read {
                read?;
                // Another file may have the name by now.
                return self.watch_file();
            }
        }
    }

    fn watch_file(&self) -> io::Result<()> {
        match inotify::add_watch(&self.inotify, &self.file, WatchFlags::MODIFY) {
            Ok(_) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn growth_and_replacement_are_seen() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut watch = Watch::new(directory.path(), "log").unwrap();
        fs::write(&path, "made").unwrap();
        watch.changed().await.unwrap();
        fs::rename(&path, directory.path().join("log.1")).unwrap();
        fs::write(&path, "").unwrap();
        watch.changed().await.unwrap();
        // Written to by someone who has it open: no name changes.
        let file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        while tokio::time::timeout(std::time::Duration::from_millis(1), watch.changed()).await.is_ok() {}
        io::Write::write_all(&mut &file, b"more").unwrap();
        watch.changed().await.unwrap();
    }
}
