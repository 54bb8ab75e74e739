//! Makes an image of a root file system.

use std::fs::File;
use std::io::{self, Read, Write};

use images::store::{Change, ChangeError, Commit, CommitError, TagError};
use images::{Limits, Name, NameError, Store};
use jiff::Timestamp;

use crate::args::ImportArgs;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportCommandError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error("cannot open {path}")]
    Open { path: String, source: io::Error },
    #[error("cannot import {path}")]
    Import { path: String, source: CommitError },
    #[error(transparent)]
    Tag(#[from] TagError),
    #[error("cannot print what was made")]
    Print(#[from] io::Error),
}

pub(crate) fn import(
    store: &Store,
    args: &ImportArgs,
    out: &mut dyn Write,
) -> Result<(), ImportCommandError> {
    // What is wrong with the command line is told before anything is read.
    let name = args.name.as_deref().map(Name::parse).transpose()?;
    let message =
        if args.message.is_empty() { format!("Imported from {}", args.file) } else { args.message.clone() };
    let commit = Commit {
        changes: changes(&args.change)?,
        created: Timestamp::now().to_string(),
        created_by: String::new(),
        author: None,
        message: Some(message),
    };
    let source: Box<dyn Read + Send> = match args.file.as_str() {
        "-" => Box::new(io::stdin()),
        path => {
            let open = File::open(path);
            Box::new(open.map_err(|source| ImportCommandError::Open { path: path.to_owned(), source })?)
        }
    };
    let platform = args.platform.clone().unwrap_or_default();
    let image = store
        .import(source, &platform, &commit, &Limits::default())
        .map_err(|source| ImportCommandError::Import { path: args.file.clone(), source })?;
    if let Some(name) = &name {
        store.tag(&image.id().to_string(), name)?;
    }
    writeln!(out, "{}", image.id())?;
    Ok(())
}

/// What `--change` says, instruction by instruction.
pub(super) fn changes(instructions: &[String]) -> Result<Vec<Change>, ChangeError> {
    let parsed = instructions.iter().map(|instruction| Change::parse(instruction));
    Ok(parsed.collect::<Result<Vec<_>, _>>()?.concat())
}
