//! Where containerd wants a process's streams to come from and go to: FIFOs it made, a file, or a program that logs.
//!
//! A FIFO's other end may not be there yet, may leave and come back: containerd restarts. So this process keeps an end of
//! its own of each kind. Nothing waits for an open, a reader that leaves costs no byte, and stdin ends when the client is
//! gone *and* containerd has said that nobody else comes (CloseIO).

mod logger;
mod pump;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use sandbox::TerminalSize;
use tokio::net::unix::pipe;

use logger::Logger;
pub(crate) use pump::Pumps;

/// As a request has them; empty for none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stdio {
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) terminal: bool,
}

/// This host's ends, once they are open.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    stdin: Option<Input>,
    stdout: Option<Output>,
    stderr: Option<Output>,
    logger: Option<Logger>,
}

#[derive(Debug)]
struct Input {
    from: pipe::Receiver,
    /// Keeps stdin from ending.
    held: Option<pipe::Sender>,
}

#[derive(Debug)]
enum Output {
    Pipe(pipe::Sender),
    /// Of which nobody can wait to become writable.
    File(File),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum StdioError {
    #[error("unknown STDIO scheme {0}")]
    Scheme(String),
    #[error("{0:?} is no path of a stream")]
    Path(String),
    #[error("cannot open {}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot start the logging binary {}", path.display())]
    Logger { path: PathBuf, source: io::Error },
}

/// Whose streams they are, for a program that logs them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) id: &'a str,
}

/// What a stream's name names.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    /// A FIFO, or what is there instead.
    Path(PathBuf),
    File(PathBuf),
    Binary {
        path: PathBuf,
        arguments: Vec<String>,
    },
}

impl Stdio {
    /// What the guest is to be asked for.
    pub(crate) fn wanted(&self, size: TerminalSize) -> sandbox::Stdio {
        sandbox::Stdio {
            stdin: !self.stdin.is_empty(),
            stdout: !self.stdout.is_empty(),
            stderr: !self.terminal && (!self.stderr.is_empty() || self.logs()),
            terminal: self.terminal.then_some(size),
        }
    }

    /// Both outputs go where stdout's name says, whatever stderr's.
    fn logs(&self) -> bool {
        matches!(Target::parse(&self.stdout), Ok(Some(Target::File(_) | Target::Binary { .. })))
    }

    /// `hold_stdin`: until [`Pumps::close_stdin`].
    pub(crate) async fn open(&self, owner: Owner<'_>, hold_stdin: bool) -> Result<Ends, StdioError> {
        let stdin = match Target::parse(&self.stdin)? {
            None => None,
            Some(Target::Path(path)) => Some(Input::open(&path, hold_stdin)?),
            Some(_) => return Err(StdioError::Path(self.stdin.clone())),
        };
        let mut ends = Ends { stdin, ..Ends::default() };
        match Target::parse(&self.stdout)? {
            Some(Target::Binary { path, arguments }) => {
                let (logger, stdout, stderr) = Logger::start(&path, &arguments, owner)
                    .await
                    .map_err(|source| StdioError::Logger { path, source })?;
                ends.logger = Some(logger);
                ends.stdout = Some(Output::Pipe(stdout));
                ends.stderr = Some(Output::Pipe(stderr));
            }
            Some(Target::File(path)) => {
                ends.stdout = Some(Output::append(&path, true)?);
                ends.stderr = Some(Output::append(&path, true)?);
            }
            stdout => {
                ends.stdout = stdout.map(Output::open).transpose()?;
                // Beside a terminal, containerd's clients name one that they do not make.
                if !self.terminal {
                    ends.stderr = Target::parse(&self.stderr)?.map(Output::open).transpose()?;
                }
            }
        }
        if self.terminal {
            ends.stderr = None;
        }
        Ok(ends)
    }
}

impl Target {
    fn parse(name: &str) -> Result<Option<Self>, StdioError> {
        if name.is_empty() {
            return Ok(None);
        }
        let path = |path: &str| {
            let decoded = percent_decode_str(path).decode_utf8().ok();
            decoded.filter(|path| path.starts_with('/')).map(|path| PathBuf::from(path.as_ref()))
        };
        let no_path = || StdioError::Path(name.to_owned());
        match name.split_once("://") {
            None => Ok(Some(Self::Path(PathBuf::from(name)))),
            Some(("fifo", rest)) => Ok(Some(Self::Path(path(rest).ok_or_else(no_path)?))),
            Some(("file", rest)) => Ok(Some(Self::File(path(rest).ok_or_else(no_path)?))),
            Some(("binary", rest)) => {
                let (program, query) = rest.split_once('?').unwrap_or((rest, ""));
                Ok(Some(Self::Binary {
                    path: path(program).ok_or_else(no_path)?,
                    arguments: arguments(query).ok_or_else(no_path)?,
                }))
            }
            Some((scheme, _)) => Err(StdioError::Scheme(scheme.to_owned())),
        }
    }
}

/// A query's names and values, one after the other, which is how containerd has a logging binary's arguments in its URI.
fn arguments(query: &str) -> Option<Vec<String>> {
    let decode = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_decode_str(&spaced).decode_utf8().ok().map(String::from)
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .flat_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            [decode(name), decode(value)]
        })
        .collect()
}

impl Input {
    fn open(path: &Path, hold: bool) -> Result<Self, StdioError> {
        let failed = |source| StdioError::Open { path: path.to_owned(), source };
        let from = pipe::OpenOptions::new().open_receiver(path).map_err(failed)?;
        // It is read, so that this does not fail for want of a reader.
        let held = hold.then(|| pipe::OpenOptions::new().open_sender(path)).transpose().map_err(failed)?;
        Ok(Self { from, held })
    }
}

impl Output {
    fn open(target: Target) -> Result<Self, StdioError> {
        let path = match target {
            Target::Path(path) => path,
            Target::File(path) => return Self::append(&path, true),
            Target::Binary { path, .. } => return Err(StdioError::Path(path.display().to_string())),
        };
        let failed = |source| StdioError::Open { path: path.clone(), source };
        if !std::fs::metadata(&path).map_err(failed)?.file_type().is_fifo() {
            return Self::append(&path, false);
        }
        // Read by this process, too, it never lacks a reader.
        let opened = pipe::OpenOptions::new().read_write(true).open_sender(&path);
        opened.map(Self::Pipe).map_err(failed)
    }

    fn append(path: &Path, make: bool) -> Result<Self, StdioError> {
        let failed = |source| StdioError::Open { path: path.to_owned(), source };
        if let (true, Some(directory)) = (make, path.parent()) {
            std::fs::create_dir_all(directory).map_err(failed)?;
        }
        OpenOptions::new().append(true).create(make).open(path).map(Self::File).map_err(failed)
    }
}

#[cfg(test)]
mod tests;
