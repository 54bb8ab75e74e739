//! Copies of a running sandbox, which others go on from: its VM's state and memory, and its writable disk.
//!
//! ```text
//! DIRECTORY/state      what the VM is besides its memory (vmm_api::StateFile)
//!           memory     the guest's memory, sparse
//!           disk       its writable disk, if it has one, sparse
//! ```
//!
//! All of it is of one moment, for which the sandbox stands still: while its disk is copied and until its memory can be
//! copied behind its back. Its container is frozen in its guest, too: in a copy nothing of it runs before that one has
//! randomness, a clock and a name of its own.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vmm_api::{FdIndex, Reply, Request};

use crate::cgroup;
use crate::guest::{Guest, GuestError};
use crate::sparse_copy::sparse_copy;
use crate::vmm::{VmmError, VmmHandle};

/// The files of one, by their directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFiles {
    directory: PathBuf,
}

/// Takes snapshots of one sandbox.
#[derive(Clone)]
pub struct Snapshotter {
    pub(crate) guest: Guest,
    pub(crate) vmm: VmmHandle,
    pub(crate) cgroup: Option<PathBuf>,
    pub(crate) scratch: Option<Arc<OwnedFd>>,
}

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("cannot make {}", .path.display())]
    Make { path: PathBuf, source: io::Error },
    #[error("cannot copy the writable disk to {}", .path.display())]
    Disk { path: PathBuf, source: io::Error },
    #[error("cannot save the VM")]
    Vmm(#[from] VmmError),
    #[error("cannot freeze the container")]
    Freeze(#[source] GuestError),
    #[error("cannot let the container go on")]
    Thaw(#[source] GuestError),
    #[error("cannot make room for the copy in the sandbox's cgroup")]
    Room(#[source] io::Error),
}

impl SnapshotFiles {
    pub fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    pub fn memory(&self) -> PathBuf {
        self.directory.join("memory")
    }

    pub fn disk(&self) -> PathBuf {
        self.directory.join("disk")
    }

    /// The room they take, in bytes.
    pub fn size(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;

        const BLOCK: u64 = 512;
        let files = [self.state(), self.memory(), self.disk()].map(fs::metadata);
        files.into_iter().flatten().map(|meta| meta.blocks() * BLOCK).sum()
    }
}

impl Snapshotter {
    /// Fills an empty directory; tells how long the container stood still. What a failure leaves there is of no use, and
    /// the container runs on in any case.
    pub async fn take(&self, files: &SnapshotFiles, container_id: &str) -> Result<Duration, SnapshotError> {
        if let Some(cgroup) = &self.cgroup {
            cgroup::make_room_for_a_copy(cgroup).map_err(SnapshotError::Room)?;
        }
        let since = Instant::now();
        self.guest.pause(container_id).await.map_err(SnapshotError::Freeze)?;
        let thaw = async {
            let thawed = self.guest.resume(container_id).await;
            thawed.map(|()| since.elapsed()).map_err(SnapshotError::Thaw)
        };
        let (state, memory) = match self.hold(files).await {
            Ok(files) => files,
            Err(error) => {
                thaw.await?;
                return Err(error);
            }
        };
        // The guest hears of the one as soon as the other lets it.
        let request = Request::Snapshot { state: FdIndex(0), memory: FdIndex(1) };
        let saving = self.vmm.call(request, vec![state.into(), memory.into()]);
        let (saved, thawed) = tokio::join!(saving, thaw);
        let stood = thawed?;
        match saved? {
            (Reply::Saved, _) => Ok(stood),
            _ => Err(VmmError::WrongReply.into()),
        }
    }

    /// Has the VM stand, with its disk copied; gives the files for the rest.
    async fn hold(&self, files: &SnapshotFiles) -> Result<(File, File), SnapshotError> {
        let (state, memory) = (make(files.state())?, make(files.memory())?);
        let disk = match &self.scratch {
            Some(scratch) => Some((Arc::clone(scratch), make(files.disk())?)),
            None => None,
        };
        match self.vmm.call(Request::Hold, Vec::new()).await? {
            (Reply::Held, _) => {}
            _ => return Err(VmmError::WrongReply.into()),
        }
        if let Some((from, to)) = disk
            && let Err(source) = copy_disk_away(from, to).await
        {
            // Whatever it says: only the VM's end keeps it from running on.
            let _ = self.vmm.call(Request::Release, Vec::new()).await;
            return Err(SnapshotError::Disk { path: files.disk(), source });
        }
        Ok((state, memory))
    }
}

fn make(path: PathBuf) -> Result<File, SnapshotError> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
    file.map_err(|source| SnapshotError::Make { path, source })
}

async fn copy_disk_away(from: Arc<OwnedFd>, to: File) -> io::Result<()> {
    let copied = tokio::task::spawn_blocking(move || sparse_copy(&from, &to)).await;
    copied.unwrap_or_else(|panicked| Err(io::Error::other(panicked)))
}
