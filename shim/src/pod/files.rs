//! What a container has of the host, given to the guest: its root, the mounts whose source is a path there, block devices.

use std::fs::File;
use std::path::Path;

use oci_spec::runtime::Spec;
use sandbox::{Access, AddedDisk, Cache, DiskError, DiskMount, FsMount, Rootfs, Share, SharedTree};

use super::root::Root;
use super::{Pod, PodError};
use crate::bundle::Bundle;
use crate::guest_spec::{Bind, BlockDevice};

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The name server that Docker's networks have in each container's network namespace.
const DOCKERS_NAME_SERVER: &str = "127.0.0.11";

/// What of the host the guest was given for a container.
#[derive(Debug, Default)]
pub(super) struct Given {
    shares: Vec<Share>,
    disks: Vec<AddedDisk>,
}

impl Given {
    pub(super) fn has_disks(&self) -> bool {
        !self.disks.is_empty()
    }
}

impl Pod {
    /// Gives the guest all of it, after which the spec's mounts name the guest's paths; says what the root is. What was
    /// given is noted also if this fails.
    pub(super) async fn give_files(
        &self,
        bundle: &Bundle,
        rootfs: &[FsMount],
        spec: &mut Spec,
        binds: &[Bind],
        given: &mut Given,
    ) -> Result<Rootfs, PodError> {
        let root = match Root::of(bundle, rootfs)? {
            Root::Tree(tree) => {
                Rootfs::Share { name: self.give_tree(tree, given).await?.name().to_owned(), read_only: false }
            }
            Root::Disk(disk) => disk.rootfs(&self.give_root_disk(&disk, given).await?),
        };
        let mut mounts = spec.mounts().clone().unwrap_or_default();
        for Bind { index, source, read_only, recursive } in binds {
            let access = if *read_only { Access::ReadOnly } else { Access::Writable };
            let tree = SharedTree::of_path(source, access, *recursive, Cache::Shared)
                .map_err(|error| PodError::Tree { what: source.display().to_string(), source: error })?;
            let share = self.give_tree(tree, given).await?;
            if let Some(mount) = mounts.get_mut(*index) {
                mount.set_source(Some(share.guest_path().into()));
            }
        }
        spec.set_mounts(Some(mounts));
        Ok(root)
    }

    async fn give_tree(&self, tree: SharedTree, given: &mut Given) -> Result<Share, PodError> {
        let share = self.sandbox.share(tree).await?;
        given.shares.push(share.clone());
        Ok(share)
    }

    async fn give_root_disk(&self, disk: &DiskMount, given: &mut Given) -> Result<AddedDisk, PodError> {
        let file =
            disk.open().map_err(|source| PodError::OpenDisk { path: disk.source().to_owned(), source })?;
        self.give_disk(file, disk.is_read_only(), given).await
    }

    /// Gives the guest block devices of the host, after which the spec names them as the guest does.
    pub(super) async fn give_devices(
        &self,
        spec: &mut Spec,
        devices: &[BlockDevice],
        given: &mut Given,
    ) -> Result<(), PodError> {
        for device in devices {
            let file =
                device.open().map_err(|source| PodError::OpenDisk { path: device.source.clone(), source })?;
            let disk = self.give_disk(file, device.is_read_only(), given).await?;
            device.settle_as(disk.number(), spec);
        }
        Ok(())
    }

    async fn give_disk(&self, file: File, read_only: bool, given: &mut Given) -> Result<AddedDisk, PodError> {
        let disk = self.sandbox.add_disk(vec![file], read_only).await?;
        given.disks.push(disk.clone());
        Ok(disk)
    }

    /// The guest lets go of what a container had of the host. An error tells of a disk that it still uses.
    pub(super) async fn take_back(&self, given: Given) -> Result<(), DiskError> {
        let Given { shares, disks } = given;
        for share in shares {
            // It goes with the VM at the latest.
            let _ = self.sandbox.unshare(share).await;
        }
        let mut all = Ok(());
        for disk in disks {
            all = all.and(self.sandbox.remove_disk(disk).await);
        }
        all
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
