//! Trees of the host's files that the guest sees below one directory: served by a process of their own, over one device.

mod server;
mod tree;

use file_server_api::{Request as ServerRequest, Share as Served};
use vmm_api::{FdIndex, Place, Reply, Request, Share as Device};

use crate::guest::{Guest, GuestError};
use crate::sandbox::Sandbox;
use crate::vmm::{VmmError, VmmHandle};

use server::ServedDevice;
pub(crate) use server::{FileServer, MEMORY as SERVER_MEMORY};

pub use file_server_api::Cache;
pub use server::ServerError;
pub use tree::{Access, SharedTree, TreeError};

/// By which the guest mounts the device.
const TAG: &str = "shares";

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
    server: FileServer,
    /// Whether the guest has mounted what holds the shares.
    is_mounted: bool,
    /// How many there have been: no name comes twice, for a guest may remember one.
    named: u64,
}

/// The device that a template has a place for.
pub(crate) fn place() -> Place {
    Place::Share { tag: TAG.to_owned() }
}

impl Shares {
    pub(crate) fn of(server: FileServer) -> Self {
        Self { server, is_mounted: false, named: 0 }
    }

    /// Waits until nothing of it is left.
    pub(crate) async fn gone(self) {
        self.server.gone().await;
    }

    async fn add(&mut self, tree: SharedTree, vmm: &VmmHandle, guest: &Guest) -> Result<Share, ShareError> {
        if !self.is_mounted {
            self.give_device(vmm).await?;
            guest.mount_shares(TAG).await?;
            self.is_mounted = true;
        }
        self.named += 1;
        let share = Share { name: self.named.to_string() };
        let (mount, served) = tree.served_as(share.name.clone());
        self.server.ask(ServerRequest::AddShare(served), Some(mount)).await?;
        Ok(share)
    }

    /// Unless the VMM has it from a time before.
    async fn give_device(&mut self, vmm: &VmmHandle) -> Result<(), ShareError> {
        let Some(ServedDevice { socket, served }) = self.server.take_device() else { return Ok(()) };
        let device = Device { tag: TAG.to_owned(), server: FdIndex(0) };
        match vmm.call(Request::AddShare(device), vec![socket]).await? {
            (Reply::ShareAdded, _) => {}
            _ => return Err(VmmError::WrongReply.into()),
        }
        let vmm = vmm.clone();
        tokio::spawn(async move {
            // Its sender only ever goes.
            let _ = served.await;
            // Containers without their files are to be restarted, not to linger. A VM that has ended stays as it is.
            let _ = vmm.call(Request::Stop, Vec::new()).await;
        });
        Ok(())
    }
}

impl Sandbox {
    /// Serves a tree to the guest. A container's root file system or mounts may be of it from then on.
    pub async fn share(&self, tree: SharedTree) -> Result<Share, ShareError> {
        let mut shares = self.shares.lock().await;
        let shares = shares.as_mut().ok_or(ShareError::NotWanted)?;
        shares.add(tree, self.vmm.handle(), &self.guest).await
    }

    /// Takes a tree back; the guest is to have let go of it.
    pub async fn unshare(&self, share: Share) -> Result<(), ShareError> {
        let shares = self.shares.lock().await;
        let shares = shares.as_ref().ok_or(ShareError::NotWanted)?;
        Ok(shares.server.ask(ServerRequest::RemoveShare { name: share.name }, None).await?)
    }
}

impl SharedTree {
    fn served_as(self, name: String) -> (std::os::fd::OwnedFd, Served) {
        let read_only = self.access == Access::ReadOnly;
        (self.mount, Served { name, read_only, cache: self.cache })
    }
}
