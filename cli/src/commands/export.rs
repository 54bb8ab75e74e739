//! Writes a container's whole file system as a tar archive.

use std::io;

use containers::{ContainersError, EnterError, Entered, Host};
use sandbox::ArchiveError;

use crate::args::ExportArgs;
use crate::output_file::{Output, OutputError};
use crate::pump::{self, PumpError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportError {
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error(transparent)]
    Containers(#[from] ContainersError),
    #[error(transparent)]
    Enter(#[from] EnterError),
    #[error("cannot export container {name}")]
    Archive { name: String, source: ArchiveError },
    #[error("cannot export container {name}")]
    Write { name: String, source: PumpError<io::Error> },
}

pub(crate) async fn export(host: &Host<'_>, args: &ExportArgs) -> Result<(), ExportError> {
    let container = host.containers.find(&args.container)?;
    let mut output = Output::open(args.output.as_deref())?;
    let entered = Entered::enter(host, &container).await?;
    let name = || container.name().to_owned();
    let exported = async {
        let archive = entered.guest().export(container.id()).await;
        let archive = archive.map_err(|source| ExportError::Archive { name: name(), source })?;
        let copied =
            pump::read(archive, move |mut stream| io::copy(&mut stream, &mut output).map(|_| output));
        copied.await.map_err(|source| ExportError::Write { name: name(), source })
    };
    let exported = exported.await;
    entered.leave().await?;
    Ok(exported?.finish()?)
}
