//! `bulkhead-oci state`.

use std::io::{self, Write};

use crate::state::{Root, StateError};

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("cannot print the state")]
    Print(#[from] io::Error),
    #[error("cannot encode the state")]
    Encode(#[from] serde_json::Error),
}

pub(super) fn state(root: &Root, id: &str, out: &mut impl Write) -> Result<(), Error> {
    let container = root.load(id)?;
    Ok(writeln!(out, "{}", serde_json::to_string_pretty(&container.printed())?)?)
}
