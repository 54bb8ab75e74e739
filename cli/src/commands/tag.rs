//! Gives an image a further name.

use images::store::TagError;
use images::{Name, NameError, Store};

use crate::args::TagArgs;

#[derive(Debug, thiserror::Error)]
pub(crate) enum TagCommandError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Tag(#[from] TagError),
}

pub(crate) fn tag(store: &Store, args: &TagArgs) -> Result<(), TagCommandError> {
    store.tag(&args.image, &Name::parse(&args.name)?)?;
    Ok(())
}
