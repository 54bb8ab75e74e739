//! Fetches an image from a registry.

use std::io::{self, Write};

use images::registry::{ConfigurationError, Registries};
use images::store::{PullError, PullOptions};
use images::{Name, NameError, Store};

use crate::args::PullArgs;
use crate::image;
use crate::progress::{Layers, Stream, Work};

#[derive(Debug, thiserror::Error)]
pub(crate) enum PullCommandError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    #[error(transparent)]
    Pull(#[from] PullError),
    #[error("cannot print what was pulled")]
    Print(#[from] io::Error),
}

pub(crate) fn pull(store: &Store, args: &PullArgs, out: &mut dyn Write) -> Result<(), PullCommandError> {
    let name = Name::parse(&args.name)?;
    let repository = Registries::from_environment()?.repository(&name);
    let platform = args.platform.clone().unwrap_or_default();
    let options = PullOptions { platform, ..PullOptions::default() };
    if args.quiet {
        store.pull(&name, &repository, &options, &())?;
        writeln!(out, "{name}")?;
        return Ok(());
    }
    if says_no_tag(&args.name) {
        writeln!(out, "Using default tag: latest")?;
    }
    writeln!(out, "{}: Pulling from {}", name.reference(), name.repository())?;
    out.flush()?;
    let pulled = store.pull(&name, &repository, &options, &Layers::new(Work::Pull, Stream::Out))?;
    writeln!(out, "Digest: {}\nStatus: {}\n{name}", pulled.digest, image::status(&name, pulled.is_new))?;
    Ok(())
}

/// Whether neither a tag nor a digest follows the repository.
pub(super) fn says_no_tag(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or_default();
    !last.contains([':', '@'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_no_tag() {
        let without: Vec<_> =
            ["debian", "debian:12", "host:5000/debian", "host:5000/debian:12", "debian@sha256:0"]
                .into_iter()
                .filter(|name| says_no_tag(name))
                .collect();
        assert_eq!(without, ["debian", "host:5000/debian"]);
    }
}
