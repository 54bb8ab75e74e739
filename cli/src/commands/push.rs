//! Sends an image to a registry.

use std::io::{self, Write};

use images::registry::{ConfigurationError, Registries};
use images::store::PushError;
use images::{Name, NameError, Store};

use super::pull::says_no_tag;
use crate::args::PushArgs;
use crate::progress::{Layers, Stream, Work};

#[derive(Debug, thiserror::Error)]
pub(crate) enum PushCommandError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    #[error(transparent)]
    Push(#[from] PushError),
    #[error("cannot print what was pushed")]
    Print(#[from] io::Error),
}

pub(crate) fn push(store: &Store, args: &PushArgs, out: &mut dyn Write) -> Result<(), PushCommandError> {
    let name = Name::parse(&args.name)?;
    let repository = Registries::from_environment()?.repository(&name);
    if args.quiet {
        store.push(&name, &repository, &())?;
        writeln!(out, "{name}")?;
        return Ok(());
    }
    if says_no_tag(&args.name) {
        writeln!(out, "Using default tag: latest")?;
    }
    writeln!(out, "The push refers to repository [{}/{}]", name.registry(), name.repository())?;
    out.flush()?;
    let pushed = store.push(&name, &repository, &Layers::new(Work::Push, Stream::Out))?;
    writeln!(out, "{}: digest: {} size: {}", name.reference(), pushed.digest, pushed.size)?;
    if let Some(index) = pushed.left_out {
        writeln!(out, "Only this platform's image was pushed: those of the others in {index} are not here")?;
    }
    Ok(())
}
