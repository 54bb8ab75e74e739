//! Between streams of a guest, which are read and written as they come, and code that reads and writes on a thread.

use std::io;
use std::os::unix::net::UnixStream as BlockingStream;

use sandbox::{Archive, ArchiveError, GuestError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::{JoinError, spawn_blocking};

/// Bytes on their way at one time.
const BUFFER_LEN: usize = 64 * 1024;

/// An archive and the work on it came apart.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PumpError<E: std::error::Error + 'static> {
    #[error(transparent)]
    Archive(ArchiveError),
    #[error(transparent)]
    Work(E),
    #[error("cannot make a pair of streams")]
    Pair(#[source] io::Error),
    #[error("the work broke off")]
    Task(#[source] JoinError),
}

/// Has `work`, on a thread, read what the guest writes. Succeeds when both say that all is well.
pub(crate) async fn read<T, E>(
    mut archive: Archive,
    work: impl FnOnce(BlockingStream) -> Result<T, E> + Send + 'static,
) -> Result<T, PumpError<E>>
where
    T: Send + 'static,
    E: std::error::Error + Send + 'static,
{
    let (mut ours, theirs) = pair().map_err(PumpError::Pair)?;
    let work = spawn_blocking(move || work(theirs));
    let mut buffer = vec![0; BUFFER_LEN];
    let passed = loop {
        match archive.read(&mut buffer).await {
            Ok(0) => break Ok(()),
            Ok(length) => {
                // Who reads no more says why.
                if ours.write_all(buffer.get(..length).unwrap_or_default()).await.is_err() {
                    break Ok(());
                }
            }
            Err(error) => break Err(error),
        }
    };
    drop(ours);
    let worked = work.await.map_err(PumpError::Task)?;
    // An archive that broke off is the reason of what the work then stumbled over.
    passed.map_err(|error| PumpError::Archive(archive_error(error)))?;
    worked.map_err(PumpError::Work)
}

/// The guest's error in one of reading its archive.
fn archive_error(error: io::Error) -> ArchiveError {
    match error.downcast::<GuestError>() {
        Ok(error) => ArchiveError::Guest(error),
        Err(error) => ArchiveError::Stream(error),
    }
}

/// One end for the runtime, one for a thread.
pub(crate) fn pair() -> io::Result<(UnixStream, BlockingStream)> {
    let (ours, theirs) = BlockingStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs))
}
