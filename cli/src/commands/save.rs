//! Writes images to an archive.

use images::Store;
use images::store::{Format, SaveError};

use crate::args::SaveArgs;
use crate::output_file::{Output, OutputError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum SaveCommandError {
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error(transparent)]
    Save(#[from] SaveError),
}

pub(crate) fn save(store: &Store, args: &SaveArgs) -> Result<(), SaveCommandError> {
    let mut output = Output::open(args.output.as_deref())?;
    store.save(&args.images, Format::Docker, &mut output)?;
    Ok(output.finish()?)
}
