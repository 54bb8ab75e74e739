//! Which containers are made from an image.

use std::collections::BTreeMap;

use containers::{Containers, ContainersError};
use images::Sha256;
use images::store::ImageUse;

/// The uses of all images, as they were when this was made.
pub(crate) struct InUse(BTreeMap<String, ImageUse>);

impl InUse {
    pub(crate) fn look(containers: &Containers) -> Result<Self, ContainersError> {
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
        Ok(Self(uses))
    }

    pub(crate) fn of(&self, image: &Sha256) -> Option<ImageUse> {
        self.0.get(&image.to_string()).cloned()
    }
}
