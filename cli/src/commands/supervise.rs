//! Keeps a container while it runs: the program behind each, started by `run` and `start`.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Command;

use containers::{Containers, Host, SuperviseError};
use images::Store;
use images::store::StoreError;
use sandbox::{Installation, InstallationError, LIBDIR_VARIABLE, Timeline};

use crate::data_dir::{self, DataDir};
use crate::image;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    #[error("cannot tell where this program is installed")]
    OwnPath(#[source] io::Error),
    #[error("cannot tell where {LIBDIR_VARIABLE} is")]
    Library(#[source] io::Error),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Installation(#[from] InstallationError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Supervise(#[from] SuperviseError),
}

/// What makes this program a supervisor. The id that follows is for whoever looks at the list of processes; what it is to
/// do comes over the connection that is its standard input.
pub(crate) const VERB: &str = "supervise";

/// The command line that starts a container's supervisor, which runs in another directory than this process.
pub(crate) fn program(data: &DataDir, id: &str) -> Result<Command, ProgramError> {
    let mut program = Command::new(std::env::current_exe().map_err(ProgramError::OwnPath)?);
    program.arg(VERB).arg(id).env(data_dir::VARIABLE, data.path());
    if let Some(library) = std::env::var_os(LIBDIR_VARIABLE) {
        program.env(LIBDIR_VARIABLE, absolute(library).map_err(ProgramError::Library)?);
    }
    Ok(program)
}

fn absolute(path: OsString) -> io::Result<PathBuf> {
    std::path::absolute(PathBuf::from(path))
}

pub(crate) async fn supervise(
    containers: &Containers,
    data: &DataDir,
    timeline: &Timeline,
) -> Result<(), Error> {
    let installation = Installation::find()?;
    let store = Store::open(data.images())?;
    let host = Host {
        containers,
        installation: &installation,
        scratch: data.scratch(),
        open_image: &|config| Ok(image::open(&store, &store.find(&config.image.id)?)?),
        timeline,
    };
    Ok(containers::supervise(&host).await?)
}
