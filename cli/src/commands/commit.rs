//! Makes an image of a container's changes.

use std::io::{self, Write};

use containers::{ContainersError, EnterError, Entered, Host, State, Supervisor, SupervisorError};
use images::store::{ChangeError, Commit, CommitError, FindError, TagError};
use images::{Limits, Name, NameError, Store};
use jiff::Timestamp;
use sandbox::ArchiveError;

use super::import::changes;
use crate::args::CommitArgs;
use crate::pump::{self, PumpError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum CommitCommandError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error(transparent)]
    Containers(#[from] ContainersError),
    #[error("the image that container {name} was made from is not here any more")]
    Base { name: String, source: FindError },
    #[error(transparent)]
    Enter(#[from] EnterError),
    #[error(transparent)]
    Pause(#[from] SupervisorError),
    #[error("cannot read the changes of container {name}")]
    Read { name: String, source: ArchiveError },
    #[error("cannot make an image of container {name}")]
    Make { name: String, source: PumpError<CommitError> },
    #[error(transparent)]
    Tag(#[from] TagError),
    #[error("cannot print the image's id")]
    Print(#[from] io::Error),
}

pub(crate) async fn commit(
    store: &Store,
    host: &Host<'_>,
    args: &CommitArgs,
    out: &mut dyn Write,
) -> Result<(), CommitCommandError> {
    // What is wrong with the command line is told before anything is done.
    let name = args.name.as_deref().map(Name::parse).transpose()?;
    let container = host.containers.find(&args.container)?;
    let commit = Commit {
        changes: changes(&args.change)?,
        created: Timestamp::now().to_string(),
        created_by: container.config().command().join(" "),
        author: Some(args.author.clone()).filter(|author| !author.is_empty()),
        message: Some(args.message.clone()).filter(|message| !message.is_empty()),
    };
    let called = || container.name().to_owned();
    let base = store
        .find(&container.config().image.id)
        .map_err(|source| CommitCommandError::Base { name: called(), source })?;
    let pausing = args.pause && container.status().state == State::Running;
    let supervisor = pausing.then(|| Supervisor::connect(&container)).transpose()?;
    let entered = Entered::enter(host, &container).await?;
    if let Some(supervisor) = &supervisor {
        supervisor.pause().await?;
    }
    let made = async {
        let layer = entered.guest().export_changes(container.id()).await;
        let layer = layer.map_err(|source| CommitCommandError::Read { name: called(), source })?;
        let store = store.clone();
        let made = pump::read(layer, move |layer| store.commit(&base, layer, &commit, &Limits::default()));
        made.await.map_err(|source| CommitCommandError::Make { name: called(), source })
    };
    let made = made.await;
    if let Some(supervisor) = &supervisor {
        supervisor.unpause().await?;
    }
    entered.leave().await?;
    let image = made?;
    if let Some(name) = &name {
        store.tag(&image.id().to_string(), name)?;
    }
    writeln!(out, "{}", image.id())?;
    Ok(())
}
