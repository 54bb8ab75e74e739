//! Files of the host, which containers' root file systems and mounts may be of: one device that has them all, mounted once.

use std::ffi::CString;
use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use tokio::sync::OnceCell;

use crate::disks::{self, DiskError};

/// As agent-api has it: a share NAME is this directory's entry NAME.
pub(crate) const DIRECTORY: &str = "/run/bulkhead/shares";

#[derive(Debug, thiserror::Error)]
pub(crate) enum ShareError {
    #[error("cannot mount the host's files, device {tag:?}")]
    Mount { tag: String, source: io::Error },
    #[error(transparent)]
    Look(#[from] DiskError),
}

/// Mounts the device with this tag, the first time it is asked to.
pub(crate) async fn mount_once(tag: &str) -> Result<(), ShareError> {
    static MOUNTED: OnceCell<()> = OnceCell::const_new();
    MOUNTED.get_or_try_init(|| mount_device(tag)).await.map(drop)
}

async fn mount_device(tag: &str) -> Result<(), ShareError> {
    let attempt = |tag: String| tokio::task::spawn_blocking(move || try_mount(&tag));
    let failed = |source| ShareError::Mount { tag: tag.to_owned(), source };
    let joined = |outcome: Result<io::Result<()>, _>| {
        outcome.unwrap_or_else(|panic: tokio::task::JoinError| Err(panic.into()))
    };
    match joined(attempt(tag.to_owned()).await) {
        // A guest without a place for it has the device on its bus, and has not looked there yet.
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            disks::look().await?;
            joined(attempt(tag.to_owned()).await).map_err(failed)
        }
        outcome => outcome.map_err(failed),
    }
}

fn try_mount(tag: &str) -> io::Result<()> {
    fs::create_dir_all(DIRECTORY)?;
    let none = CString::default();
    Ok(mount(tag, DIRECTORY, "virtiofs", MountFlags::empty(), Some(none.as_c_str()))?)
}
