//! PID namespaces that containers share: another container's, or one that is kept for all that ask for it.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::process::{Pid, getpid};
use tokio::sync::Mutex;

use super::launch::Launcher;
use super::view::is_alive;
use super::{CallError, Containers};
use crate::error_chain;

/// The process that keeps the shared namespace, once one was asked for. It has nobody to end it but the guest's end; where
/// it was ended nonetheless, so were all in its namespace, and the next to ask get a new one.
pub(super) type Pause = Arc<Mutex<Option<(Pid, OwnedFd)>>>;

/// A namespace to join, which stays the one it is while this exists.
pub(super) struct PidNamespace {
    file: File,
}

impl Containers {
    /// That of a running container; with an empty id, the one that is kept.
    pub(super) async fn pid_namespace(&self, id: &str) -> Result<PidNamespace, CallError> {
        if id.is_empty() {
            return self.kept_pid_namespace().await;
        }
        let running = self.view(id).await?.init;
        let namespace = running.map(|(pid, pidfd)| PidNamespace::of(pid, &pidfd)).transpose()?.flatten();
        namespace.ok_or_else(|| CallError::WrongState(format!("container {id:?} is not running")))
    }

    async fn kept_pid_namespace(&self) -> Result<PidNamespace, CallError> {
        // Held, so that two that ask at once get the same.
        let mut pause = self.pause.lock().await;
        if let Some((pid, pidfd)) = pause.as_ref()
            && let Some(namespace) = PidNamespace::of(*pid, pidfd)?
        {
            return Ok(namespace);
        }
        let (pid, pidfd) = made(&self.environment.launcher).await?;
        let namespace = PidNamespace::of(pid, &pidfd)?;
        *pause = Some((pid, pidfd));
        namespace.ok_or_else(|| CallError::Internal("what keeps the PID namespace has ended".to_owned()))
    }
}

async fn made(launcher: &Launcher) -> Result<(Pid, OwnedFd), CallError> {
    launcher.pause().await.map_err(|error| CallError::Internal(error_chain::describe(&error)))
}

impl PidNamespace {
    /// `None` if the process has ended.
    fn of(pid: Pid, pidfd: &OwnedFd) -> io::Result<Option<Self>> {
        let opened = File::open(format!("/proc/{pid}/ns/pid"));
        // It was this process all along: a pid is given again only after its end.
        if !is_alive(pidfd)? {
            return Ok(None);
        }
        Ok(Some(Self { file: opened? }))
    }

    /// For the helper, which finds this process's descriptors.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", getpid(), self.file.as_raw_fd()).into()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::process::Command;

    use rustix::process::{PidfdFlags, pidfd_open};

    use super::*;

    #[test]
    fn a_namespace_is_found_by_a_path_while_its_process_lives() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let namespace = PidNamespace::of(pid, &pidfd).unwrap().unwrap();
        let inode = |path: PathBuf| std::fs::metadata(path).unwrap().ino();
        assert_eq!(inode(namespace.path()), inode("/proc/self/ns/pid".into()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(PidNamespace::of(pid, &pidfd).unwrap().is_none());
    }
}
