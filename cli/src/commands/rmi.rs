//! Removes images.

use std::io::{self, Write};

use containers::{Containers, Snapshots};
use images::Store;
use images::store::{RemoveError, Removed};

use crate::args::RmiArgs;
use crate::in_use::{InUse, InUseError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum RmiError {
    #[error(transparent)]
    InUse(#[from] InUseError),
    #[error(transparent)]
    Remove(#[from] RemoveError),
    #[error("cannot print what was removed")]
    Print(#[from] io::Error),
}

/// Tries each, and gives the reasons of those that are still there.
pub(crate) fn rmi(
    store: &Store,
    containers: &Containers,
    snapshots: &Snapshots,
    args: &RmiArgs,
    out: &mut dyn Write,
) -> Result<Vec<RmiError>, RmiError> {
    let in_use = InUse::look(containers, snapshots)?;
    let mut errors = Vec::new();
    for image in &args.images {
        match store.remove(image, args.force, &|id| in_use.of(id)) {
            Ok(removed) => report(&removed, out)?,
            Err(error) => errors.push(error.into()),
        }
    }
    Ok(errors)
}

/// Docker's lines.
pub(super) fn report(removed: &[Removed], out: &mut dyn Write) -> io::Result<()> {
    removed.iter().try_for_each(|removed| match removed {
        Removed::Untagged(name) => writeln!(out, "Untagged: {}", name.familiar()),
        Removed::Deleted(id) => writeln!(out, "Deleted: {id}"),
    })
}
