//! Where an archive goes that a command writes: to a file, which appears whole or not at all, or to standard output.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// An archive is no reading for people.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutputError {
    #[error("refusing to write an archive to a terminal: use -o FILE or redirect standard output")]
    Terminal,
    #[error("cannot write {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("cannot write to standard output")]
    Stdout(#[source] io::Error),
}

pub(crate) enum Output {
    File {
        path: PathBuf,
        file: BufWriter<NamedTempFile>,
    },
    /// What is no regular file (a pipe, a device) is written to as it is.
    Plain {
        path: PathBuf,
        file: BufWriter<std::fs::File>,
    },
    Stdout(BufWriter<io::Stdout>),
}

impl Output {
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, OutputError> {
        let Some(path) = path else {
            return match io::stdout().is_terminal() {
                true => Err(OutputError::Terminal),
                false => Ok(Self::Stdout(BufWriter::new(io::stdout()))),
            };
        };
        let failed = |source| OutputError::File { path: path.to_owned(), source };
        match path.metadata() {
            Ok(there) if !there.is_file() => {
                let file = std::fs::File::options().write(true).open(path).map_err(failed)?;
                Ok(Self::Plain { path: path.to_owned(), file: BufWriter::new(file) })
            }
            _ => {
                let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                let file = NamedTempFile::new_in(directory.unwrap_or(Path::new("."))).map_err(failed)?;
                Ok(Self::File { path: path.to_owned(), file: BufWriter::new(file) })
            }
        }
    }

    /// All is written: gives the file its name.
    pub(crate) fn finish(self) -> Result<(), OutputError> {
        match self {
            Self::Stdout(mut out) => out.flush().map_err(OutputError::Stdout),
            Self::Plain { path, mut file } => {
                file.flush().map_err(|source| OutputError::File { path, source })
            }
            Self::File { path, file } => {
                let failed = |source| OutputError::File { path: path.clone(), source };
                let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
                file.persist(&path).map(drop).map_err(|error| failed(error.error))
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File { file, .. } => file.write(bytes),
            Self::Plain { file, .. } => file.write(bytes),
            Self::Stdout(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File { file, .. } => file.flush(),
            Self::Plain { file, .. } => file.flush(),
            Self::Stdout(out) => out.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_when_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("archive.tar");
        let mut output = Output::open(Some(&path)).unwrap();
        output.write_all(b"half").unwrap();
        drop(output);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        let mut output = Output::open(Some(&path)).unwrap();
        output.write_all(b"whole").unwrap();
        output.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_that_is_missing_is_named() {
        let error = Output::open(Some(Path::new("/no/such/archive"))).err().unwrap().to_string();
        assert!(error.contains("/no/such/archive"));
    }
}
