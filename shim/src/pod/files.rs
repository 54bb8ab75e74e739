//! The files a container is made of, shared with the guest: its root, and the mounts whose source is the host's.

use std::path::Path;

use oci_spec::runtime::Spec;
use sandbox::{Access, Cache, FsMount, Share, SharedTree};

use super::{Pod, PodError, root};
use crate::bundle::Bundle;
use crate::guest_spec::Bind;

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The name server that Docker's networks have in each container's network namespace.
const DOCKERS_NAME_SERVER: &str = "127.0.0.11";

impl Pod {
    /// Shares all of it, after which the spec's mounts name the guest's paths; gives the name of the root's share. What was
    /// shared is in `shares` also if this fails.
    pub(super) async fn share_files(
        &self,
        bundle: &Bundle,
        rootfs: &[FsMount],
        spec: &mut Spec,
        binds: &[Bind],
        shares: &mut Vec<Share>,
    ) -> Result<String, PodError> {
        let root = self.sandbox.share(root::tree(bundle, rootfs)?).await?;
        let name = root.name().to_owned();
        shares.push(root);
        let mut mounts = spec.mounts().clone().unwrap_or_default();
        for Bind { index, source, read_only, recursive } in binds {
            let access = if *read_only { Access::ReadOnly } else { Access::Writable };
            let tree = SharedTree::of_path(source, access, *recursive, Cache::Shared)
                .map_err(|error| PodError::Tree { what: source.display().to_string(), source: error })?;
            let share = self.sandbox.share(tree).await?;
            if let Some(mount) = mounts.get_mut(*index) {
                mount.set_source(Some(share.guest_path().into()));
            }
            shares.push(share);
        }
        spec.set_mounts(Some(mounts));
        Ok(name)
    }

    /// The guest lets go of what a container had of the host's files.
    pub(super) async fn unshare(&self, shares: Vec<Share>) {
        for share in shares {
            // It goes with the VM at the latest.
            let _ = self.sandbox.unshare(share).await;
        }
    }
}

/// Whether a container looks for names where only the host's network namespace has a server.
pub(super) fn asks_docker_for_names(spec: &Spec, binds: &[Bind]) -> bool {
    let destination_of =
        |bind: &Bind| spec.mounts().as_ref()?.get(bind.index).map(|mount| mount.destination().clone());
    binds.iter().filter(|bind| destination_of(bind).as_deref() == Some(Path::new(RESOLV_CONF))).any(|bind| {
        std::fs::read_to_string(&bind.source).is_ok_and(|text| text.contains(DOCKERS_NAME_SERVER))
    })
}
