//! Files of a container on their way out or in: tar archives over streams of the guest.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use agent_api::agent;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use crate::guest::GuestError;
use crate::guest_text;

/// The longest list of changes that is taken from a guest, in bytes.
const MAX_CHANGES: u64 = 256 << 20;

/// A file of a container, as Docker's X-Docker-Container-Path-Stat has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStat {
    /// The last component of the path that was asked for.
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// st_mode (inode(7)): of a symbolic link itself.
    pub mode: u32,
    pub modified: SystemTime,
    /// Where in the container a symbolic link leads; empty for anything else.
    pub link_target: String,
}

/// How [`Guest::write_archive`](crate::Guest::write_archive) treats what is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Refuse to replace a directory by something else, or the other way round.
    pub keep_kind: bool,
    /// Take owners from the archive; otherwise everything is root's.
    pub keep_owner: bool,
}

/// What differs in a container from its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub kind: ChangeKind,
    /// Absolute.
    pub path: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    Added,
    Changed,
    Deleted,
}

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error(transparent)]
    Guest(#[from] GuestError),
    #[error("the stream of the archive broke")]
    Stream(#[source] io::Error),
    #[error("cannot read what is to be copied")]
    Source(#[source] io::Error),
    #[error("the guest's list of changes is not of its contract")]
    Changes,
}

/// A tar archive that the guest writes. Its end-of-file is the guest's word that it is whole: what goes wrong
/// on the way is an error of the read, made of a [`GuestError`]. Dropped, it stops the guest's work.
pub struct Archive {
    stream: UnixStream,
    /// `None` once the guest has said that all went well.
    answer: Option<JoinHandle<Result<(), GuestError>>>,
}

impl Archive {
    /// What comes over `stream` is whole when `call` succeeds. Must be called inside the runtime.
    pub(crate) fn new(
        stream: UnixStream,
        call: impl Future<Output = Result<(), GuestError>> + Send + 'static,
    ) -> Self {
        Self { stream, answer: Some(tokio::spawn(call)) }
    }

    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(answer) = &mut self.answer else { return Poll::Ready(Ok(())) };
        let told = ready!(Pin::new(answer).poll(context));
        self.answer = None;
        Poll::Ready(told.map_err(io::Error::other)?.map_err(io::Error::other))
    }
}

impl AsyncRead for Archive {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A guest that refuses may never touch the stream.
        if let Poll::Ready(Err(error)) = self.poll_answer(context) {
            return Poll::Ready(Err(error));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before || buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        self.poll_answer(context)
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        if let Some(answer) = &self.answer {
            answer.abort();
        }
    }
}

/// The changes in what a guest wrote: a letter, a path, a NUL for each.
pub(crate) async fn read_changes(archive: Archive) -> Result<Vec<Change>, ArchiveError> {
    let mut list = Vec::new();
    archive.take(MAX_CHANGES + 1).read_to_end(&mut list).await.map_err(guest_error)?;
    if list.len() as u64 > MAX_CHANGES {
        return Err(ArchiveError::Changes);
    }
    parse_changes(&list).ok_or(ArchiveError::Changes)
}

fn parse_changes(list: &[u8]) -> Option<Vec<Change>> {
    let Some(list) = list.strip_suffix(&[0]) else { return list.is_empty().then(Vec::new) };
    list.split(|byte| *byte == 0).map(parse_change).collect()
}

fn parse_change(entry: &[u8]) -> Option<Change> {
    use std::os::unix::ffi::OsStrExt;
    let (kind, path) = entry.split_first()?;
    let kind = match kind {
        b'A' => ChangeKind::Added,
        b'C' => ChangeKind::Changed,
        b'D' => ChangeKind::Deleted,
        _ => return None,
    };
    path.starts_with(b"/").then(|| Change { kind, path: std::ffi::OsStr::from_bytes(path).into() })
}

/// The guest's error in one of reading an [`Archive`].
fn guest_error(error: io::Error) -> ArchiveError {
    match error.downcast::<GuestError>() {
        Ok(error) => ArchiveError::Guest(error),
        Err(error) => ArchiveError::Stream(error),
    }
}

impl PathStat {
    pub(crate) fn from_agent(stat: agent::PathStat) -> Self {
        let since_epoch = Duration::from_nanos(stat.modified_at_ns.unsigned_abs());
        let modified = if stat.modified_at_ns < 0 {
            SystemTime::UNIX_EPOCH - since_epoch
        } else {
            SystemTime::UNIX_EPOCH + since_epoch
        };
        Self {
            name: guest_text::message(&stat.name),
            size: stat.size,
            mode: stat.mode,
            modified,
            link_target: guest_text::message(&stat.link_target),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(sent: &[u8], result: Result<(), GuestError>) -> Archive {
        let (host, guest) = UnixStream::pair().unwrap();
        let sent = sent.to_owned();
        Archive::new(host, async move {
            let mut guest = guest;
            tokio::io::AsyncWriteExt::write_all(&mut guest, &sent).await.unwrap();
            drop(guest);
            result
        })
    }

    #[tokio::test]
    async fn the_end_of_an_archive_is_the_guests_word_that_it_is_whole() {
        let mut whole = Vec::new();
        archive(b"tar", Ok(())).read_to_end(&mut whole).await.unwrap();
        assert_eq!(whole, b"tar");
        let broken = archive(b"tar", Err(GuestError::Gone)).read_to_end(&mut Vec::new()).await.unwrap_err();
        assert!(matches!(guest_error(broken), ArchiveError::Guest(GuestError::Gone)));
    }

    #[tokio::test]
    async fn a_refusal_does_not_wait_for_a_stream_nobody_uses() {
        let (host, _unused) = UnixStream::pair().unwrap();
        let mut archive = Archive::new(host, async { Err(GuestError::Gone) });
        assert!(archive.read(&mut [0]).await.is_err());
    }

    #[tokio::test]
    async fn changes_are_read_as_they_are_written() {
        let changes = read_changes(archive(b"C/etc\0A/etc/new\nline\0D/tmp/old\0", Ok(()))).await.unwrap();
        let read: Vec<_> = changes.iter().map(|c| (c.kind, c.path.to_str().unwrap())).collect();
        let expected = [
            (ChangeKind::Changed, "/etc"),
            (ChangeKind::Added, "/etc/new\nline"),
            (ChangeKind::Deleted, "/tmp/old"),
        ];
        assert_eq!(read, expected);
        for bad in [&b"X/etc\0"[..], b"A/etc", b"Aetc\0", b"\0"] {
            assert!(parse_changes(bad).is_none(), "{bad:?}");
        }
    }
}
