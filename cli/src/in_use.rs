//! Which containers, and snapshots of containers, are made from an image.

use std::collections::BTreeMap;

use containers::{Containers, ContainersError, Snapshots, SnapshotsError};
use images::Sha256;
use images::store::ImageUse;

#[derive(Debug, thiserror::Error)]
pub(crate) enum InUseError {
    #[error(transparent)]
    Containers(#[from] ContainersError),
    #[error(transparent)]
    Snapshots(#[from] SnapshotsError),
}

/// The uses of all images, as they were when this was made.
pub(crate) struct InUse(BTreeMap<String, ImageUse>);

impl InUse {
    pub(crate) fn look(containers: &Containers, snapshots: &Snapshots) -> Result<Self, InUseError> {
        let mut uses = BTreeMap::<String, ImageUse>::new();
        for container in containers.list()? {
            let is_running = container.status().state.is_running();
            let found = ImageUse { container: container.short_id().to_owned(), is_running };
            // One that runs is the better reason.
            match uses.get_mut(&container.config().image.id) {
                Some(known) if known.is_running || !is_running => {}
                Some(known) => *known = found,
                None => drop(uses.insert(container.config().image.id.clone(), found)),
            }
        }
        for snapshot in snapshots.list()? {
            let found = ImageUse { container: format!("of snapshot {}", snapshot.name), is_running: false };
            uses.entry(snapshot.about.container.image.id).or_insert(found);
        }
        Ok(Self(uses))
    }

    pub(crate) fn of(&self, image: &Sha256) -> Option<ImageUse> {
        self.0.get(&image.to_string()).cloned()
    }
}
