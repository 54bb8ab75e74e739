//! Stores the images of an archive.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use images::store::LoadError;
use images::{Limits, Store};

use crate::args::LoadArgs;
use crate::progress::{Layers, Work};
use crate::terminal;

#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadCommandError {
    #[error(
        "requested load from standard input, but it is a terminal: redirect a file to it, or name one with -i"
    )]
    Terminal,
    #[error("cannot keep what comes on standard input in {}", directory.display())]
    Spool { directory: PathBuf, source: io::Error },
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("cannot print what was loaded")]
    Print(#[from] io::Error),
}

/// `scratch` is where an archive from standard input is kept meanwhile: its index may come last.
pub(crate) fn load(
    store: &Store,
    scratch: &Path,
    args: &LoadArgs,
    out: &mut dyn Write,
) -> Result<(), LoadCommandError> {
    let spooled;
    let path = match &args.input {
        Some(path) => path.as_path(),
        None if terminal::stdin_is_terminal() => return Err(LoadCommandError::Terminal),
        None => {
            spooled = spool(scratch)
                .map_err(|source| LoadCommandError::Spool { directory: scratch.to_owned(), source })?;
            spooled.path()
        }
    };
    let platform = args.platform.clone().unwrap_or_default();
    let limits = Limits::default();
    let loaded = if args.quiet {
        store.load(path, &platform, &limits, &())?
    } else {
        store.load(path, &platform, &limits, &Layers::on_terminal(Work::Load))?
    };
    for image in loaded {
        match image.names.as_slice() {
            [] => writeln!(out, "Loaded image ID: {}", image.image.id())?,
            names => names.iter().try_for_each(|name| writeln!(out, "Loaded image: {}", name.familiar()))?,
        }
    }
    Ok(())
}

fn spool(directory: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    io::copy(&mut io::stdin().lock(), &mut file)?;
    file.flush()?;
    Ok(file)
}
