//! Copies files between a container and this machine.

use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use containers::{ContainersError, EnterError, Entered, Host};
use sandbox::{ArchiveError, GuestError, PathStat, WriteOptions};
use tokio::io::AsyncRead;
use tokio::net::UnixStream;
use tokio::task::{JoinError, spawn_blocking};

use crate::args::CpArgs;
use crate::copy::{
    self, Landing, LandingError, PackError, Packed, Place, Source, UnpackError, file_name, land, parent,
};
use crate::human;
use crate::output_file::{Output, OutputError};
use crate::pump::{self, PumpError};

/// Symbolic links that are followed one after the other (as path_resolution(7)).
const MAX_LINKS: usize = 40;

#[derive(Debug, thiserror::Error)]
pub(crate) enum CpError {
    #[error("copying between containers is not supported: copy to `-` and from `-`")]
    BetweenContainers,
    #[error("one side must be in a container: CONTAINER:PATH")]
    NoContainer,
    #[error("{0} in the container is no directory: an archive can only be unpacked in one")]
    NoDirectory(String),
    #[error("there is no {path} in container {container}")]
    Missing { container: String, path: String },
    #[error("too many symbolic links at {0}")]
    Links(String),
    #[error(transparent)]
    Containers(#[from] ContainersError),
    #[error(transparent)]
    Enter(#[from] EnterError),
    #[error("cannot look at {path} in container {container}")]
    Stat { container: String, path: String, source: GuestError },
    #[error(transparent)]
    Landing(#[from] LandingError),
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error("cannot read {path} in the container")]
    Read { path: String, source: ArchiveError },
    #[error("cannot write to {path} in the container")]
    Write { path: String, source: ArchiveError },
    #[error("cannot copy {path} out of the container")]
    Out { path: String, source: PumpError<UnpackError> },
    #[error("cannot copy {path} out of the container")]
    Stream { path: String, source: PumpError<io::Error> },
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error("cannot make a pair of streams")]
    Pair(#[source] io::Error),
    #[error("the copy broke off")]
    Task(#[from] JoinError),
}

pub(crate) async fn cp(host: &Host<'_>, args: &CpArgs) -> Result<(), CpError> {
    let (container, direction) = match (Place::parse(&args.source), Place::parse(&args.destination)) {
        (Place::Inside { .. }, Place::Inside { .. }) => return Err(CpError::BetweenContainers),
        (Place::Inside { container, path }, to) => (container, Direction::Out { path, to }),
        (from, Place::Inside { container, path }) => (container, Direction::In { from, path }),
        _ => return Err(CpError::NoContainer),
    };
    let container = host.containers.find(&container)?;
    let entered = Entered::enter(host, &container).await?;
    let copied = Copying { entered: &entered, args }.copy(direction).await;
    entered.leave().await?;
    let (bytes, to) = copied?;
    if !args.quiet {
        eprintln!("Successfully copied {} to {to}", human::size(bytes));
    }
    Ok(())
}

enum Direction {
    Out { path: String, to: Place },
    In { from: Place, path: String },
}

struct Copying<'a> {
    entered: &'a Entered,
    args: &'a CpArgs,
}

impl Copying<'_> {
    /// How many bytes the archive had, and where they went.
    async fn copy(&self, direction: Direction) -> Result<(u64, String), CpError> {
        match direction {
            Direction::Out { path, to: Place::Here(to) } => Ok((self.out(&path, &to).await?, to)),
            Direction::Out { path, .. } => {
                Ok((self.out_to_stream(&path).await?, "standard output".to_owned()))
            }
            Direction::In { from, path } => {
                let bytes = match from {
                    Place::Here(from) => self.pack_in(&from, &path).await?,
                    _ => self.stream_in(&path).await?,
                };
                Ok((bytes, format!("{}:{path}", self.entered.container().name())))
            }
        }
    }

    async fn out(&self, path: &str, to: &str) -> Result<u64, CpError> {
        let (path, stat) = self.source(path).await?;
        let source = Source { name: file_name(&path).to_owned(), is_directory: is_directory(&stat) };
        let there = Path::new(to).metadata().ok().map(|there| there.is_dir());
        let landing = land(&source, to, there)?;
        let archive = self.entered.guest().read_archive(self.id(), &path).await;
        let archive = archive.map_err(|source| CpError::Read { path: path.clone(), source })?;
        let keep_owners = self.args.archive;
        let unpacked = pump::read(archive, move |stream| {
            let counter = Counter::default();
            let skipped = copy::unpack(BufReader::new(counter.count(stream)), &landing, keep_owners)?;
            Ok((skipped, counter.bytes()))
        });
        let (skipped, bytes) = unpacked.await.map_err(|source| CpError::Out { path, source })?;
        for device in skipped {
            eprintln!("bulkhead: left out the device {}", device.display());
        }
        Ok(bytes)
    }

    async fn out_to_stream(&self, path: &str) -> Result<u64, CpError> {
        let mut output = Output::open(None)?;
        let (path, _) = self.source(path).await?;
        let archive = self.entered.guest().read_archive(self.id(), &path).await;
        let archive = archive.map_err(|source| CpError::Read { path: path.clone(), source })?;
        let copied = pump::read(archive, move |mut stream| {
            let bytes = io::copy(&mut stream, &mut output)?;
            Ok((output, bytes))
        });
        let (output, bytes) = copied.await.map_err(|source| CpError::Stream { path, source })?;
        output.finish()?;
        Ok(bytes)
    }

    async fn pack_in(&self, from: &str, path: &str) -> Result<u64, CpError> {
        let packed = copy::look(from, self.args.follow_link)?;
        let (to, there) = self.destination(path).await?;
        let Landing { directory, name } = land(&packed.source, &to, there.as_ref().map(is_directory))?;
        if there.is_none() {
            // The guest would say so as well, but not which directory it is.
            self.stat(parent(&to)).await?.ok_or_else(|| self.missing(parent(&to)))?;
        }
        let (ours, theirs) = pump::pair().map_err(CpError::Pair)?;
        let counter = Counter::default();
        let counted = counter.clone();
        let packing = spawn_blocking(move || pack(&packed, &name, counted, theirs));
        let written = self.write(&directory, ours).await;
        // What could not be read is the reason of an archive that broke off.
        let packed = packing.await?;
        match (packed, written) {
            (Ok(()), written) => written?,
            // Who does not take the rest of the archive says why.
            (Err(PackError::Write(_)), Err(error)) | (Err(_), Err(error @ CpError::Write { .. }))
                if refused(&error) =>
            {
                return Err(error);
            }
            (Err(error), _) => return Err(error.into()),
        }
        Ok(counter.bytes())
    }

    async fn stream_in(&self, path: &str) -> Result<u64, CpError> {
        let (to, there) = self.destination(path).await?;
        let there = there.ok_or_else(|| self.missing(path))?;
        if !is_directory(&there) {
            return Err(CpError::NoDirectory(path.to_owned()));
        }
        let (ours, mut theirs) = pump::pair().map_err(CpError::Pair)?;
        // Ends with the archive, or with the process: nobody waits for input that is not wanted any more.
        let feeding = spawn_blocking(move || io::copy(&mut io::stdin().lock(), &mut theirs));
        self.write(&to, ours).await?;
        Ok(feeding.await?.unwrap_or(0))
    }

    async fn write(&self, directory: &str, archive: UnixStream) -> Result<(), CpError> {
        let options = WriteOptions { keep_kind: true, keep_owner: self.args.archive };
        let guest = self.entered.guest();
        let archive: Box<dyn AsyncRead + Unpin> = Box::new(archive);
        let written = guest.write_archive(self.id(), directory, options, archive).await;
        written.map_err(|source| CpError::Write { path: directory.to_owned(), source })
    }

    /// A path that is read, and what is there. A link is itself, unless it is to be followed.
    async fn source(&self, path: &str) -> Result<(String, PathStat), CpError> {
        let found = self.stat(path).await?.ok_or_else(|| self.missing(path))?;
        if !self.args.follow_link || found.link_target.is_empty() {
            return Ok((path.to_owned(), found));
        }
        let (path, found) = self.follow(path.to_owned(), found).await?;
        let found = found.ok_or_else(|| self.missing(&path))?;
        Ok((path, found))
    }

    /// A path that is written to, and what is there; links are followed.
    async fn destination(&self, path: &str) -> Result<(String, Option<PathStat>), CpError> {
        match self.stat(path).await? {
            Some(found) if !found.link_target.is_empty() => self.follow(path.to_owned(), found).await,
            found => Ok((path.to_owned(), found)),
        }
    }

    async fn follow(
        &self,
        mut path: String,
        mut found: PathStat,
    ) -> Result<(String, Option<PathStat>), CpError> {
        for _ in 0..MAX_LINKS {
            if found.link_target.is_empty() {
                return Ok((path, Some(found)));
            }
            path = found.link_target;
            found = match self.stat(&path).await? {
                Some(found) => found,
                None => return Ok((path, None)),
            };
        }
        Err(CpError::Links(path))
    }

    async fn stat(&self, path: &str) -> Result<Option<PathStat>, CpError> {
        let found = self.entered.guest().stat_path(self.id(), path).await;
        found.map_err(|source| CpError::Stat {
            container: self.entered.container().name().to_owned(),
            path: path.to_owned(),
            source,
        })
    }

    fn missing(&self, path: &str) -> CpError {
        CpError::Missing { container: self.entered.container().name().to_owned(), path: path.to_owned() }
    }

    fn id(&self) -> &str {
        self.entered.container().id()
    }
}

fn pack(packed: &Packed, name: &str, counter: Counter, out: impl Write) -> Result<(), PackError> {
    copy::pack(packed, name, counter.count(out))
}

/// Whether it was the guest's own word.
fn refused(error: &CpError) -> bool {
    matches!(error, CpError::Write { source: ArchiveError::Guest(GuestError::Refused(_)), .. })
}

/// inode(7): the kind of file in a mode.
fn is_directory(stat: &PathStat) -> bool {
    stat.mode & 0o170_000 == 0o040_000
}

/// Counts what passes through a stream.
#[derive(Debug, Clone, Default)]
struct Counter(Arc<AtomicU64>);

struct Counted<S> {
    stream: S,
    counter: Counter,
}

impl Counter {
    fn count<S>(&self, stream: S) -> Counted<S> {
        Counted { stream, counter: self.clone() }
    }

    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl<S: Read> Read for Counted<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.stream.read(buffer)?;
        self.counter.add(length);
        Ok(length)
    }
}

impl<S: Write> Write for Counted<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.stream.write(bytes)?;
        self.counter.add(length);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
