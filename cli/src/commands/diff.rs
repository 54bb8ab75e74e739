//! Shows what a container added, changed and deleted.

use std::io::{self, Write};

use containers::{ContainersError, EnterError, Entered, Host};
use sandbox::{ArchiveError, ChangeKind};

use crate::args::DiffArgs;
use crate::listing;

#[derive(Debug, thiserror::Error)]
pub(crate) enum DiffError {
    #[error(transparent)]
    Containers(#[from] ContainersError),
    #[error(transparent)]
    Enter(#[from] EnterError),
    #[error("cannot tell what changed in container {name}")]
    Changes { name: String, source: ArchiveError },
    #[error("cannot print the changes")]
    Print(#[from] io::Error),
}

pub(crate) async fn diff(host: &Host<'_>, args: &DiffArgs, out: &mut dyn Write) -> Result<(), DiffError> {
    let container = host.containers.find(&args.container)?;
    let entered = Entered::enter(host, &container).await?;
    let changes = entered.guest().changes(container.id()).await;
    entered.leave().await?;
    let failed = |source| DiffError::Changes { name: container.name().to_owned(), source };
    for change in changes.map_err(failed)? {
        let kind = match change.kind {
            ChangeKind::Added => 'A',
            ChangeKind::Changed => 'C',
            ChangeKind::Deleted => 'D',
        };
        writeln!(out, "{kind} {}", listing::escape(&change.path.to_string_lossy()))?;
    }
    Ok(())
}
