//! Makes a container that goes on from a copy of another one, as `run --from` and `fork` do.

use std::io;

use containers::{Claimed, Config, Containers, ContainersError, Origin, RestartPolicy};
use images::Store;
use images::store::StoreError;
use sandbox::SnapshotFiles;

use crate::data_dir::DataDir;

#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    #[error("cannot get random bytes for an id")]
    Id(#[source] io::Error),
    #[error("cannot read the copy's files")]
    Files(#[source] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("its image, {0}, is not in the store any more; `bulkhead pull` may bring it back")]
    Image(String, #[source] images::store::FindError),
    #[error(transparent)]
    Containers(#[from] ContainersError),
}

/// What is said of one.
pub(crate) struct Wanted {
    pub(crate) name: Option<String>,
    pub(crate) rm: bool,
    /// Whether its input ends with the client that is attached first; `None`: as there.
    pub(crate) stdin_once: Option<bool>,
}

pub(crate) fn make(
    containers: &Containers,
    data: &DataDir,
    of: &Config,
    files: &SnapshotFiles,
    wanted: Wanted,
) -> Result<Claimed, CopyError> {
    let store = Store::open(data.images())?;
    // From finding the image to the record that says it is used, nobody may take it away.
    let _hold = store.hold()?;
    store.find(&of.image.id).map_err(|source| CopyError::Image(of.image.name.clone(), source))?;
    let mut config = of.of_copy(wanted.name).map_err(CopyError::Id)?;
    // The disk of one that is removed at its end has no journal, and is not for a second run.
    config.auto_remove = wanted.rm || of.auto_remove;
    if config.auto_remove {
        config.restart = RestartPolicy::No;
    }
    config.stdin.once = wanted.stdin_once.unwrap_or(config.stdin.once);
    let origin = Origin::new(files, of).map_err(CopyError::Files)?;
    Ok(containers.create_copy(config, &origin)?)
}
