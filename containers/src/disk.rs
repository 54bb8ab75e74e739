//! A container's writable disk.

use sandbox::Scratch;

use crate::container::Container;
use crate::supervise::Host;

/// The disk to launch a container's sandbox with: kept beside its record, where it was made with it; without a name
/// or a journal for a container that is gone after its first run.
pub(crate) fn scratch(host: &Host<'_>, container: &Container) -> Scratch {
    let config = container.config();
    if config.keeps_disk {
        Scratch::Kept { path: container.disk() }
    } else {
        Scratch::Temporary { directory: host.scratch.clone(), size: config.storage }
    }
}
