//! An image in one tar file, as `docker save`, `podman save` and `skopeo copy` make them, possibly compressed whole.
//!
//! Opening it makes a list of its members; a member is then read where it lies. In a plain archive that is a seek. In
//! a compressed one it means decompressing again up to there: slower, but nothing is unpacked to disk.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::compression;
use crate::source::Blob;
use crate::tar::{Kind, TarError, TarReader};

/// Members an archive may have: a few for each layer.
const MAX_MEMBERS: usize = 100_000;
const BUFFER: usize = 256 << 10;

/// Why a file cannot be read as an archive.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// It cannot be opened or read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is no tar file, or a damaged one.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// It holds more files than any image.
    #[error("it holds more than {MAX_MEMBERS} files")]
    TooManyMembers,
    /// It decompresses to more than the limit.
    #[error("it decompresses to more than the limit of {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
}

pub(crate) struct Archive {
    path: PathBuf,
    compressed: bool,
    members: HashMap<String, Member>,
}

enum Member {
    /// Where the data is, in bytes from the start of the uncompressed archive, and its size.
    File { offset: u64, size: u64 },
    /// Another name for a member. Older versions of Docker save a repeated layer as a symbolic link.
    Link(String),
}

impl Archive {
    pub(crate) fn open(path: &Path, max_bytes: u64) -> Result<Archive, ArchiveError> {
        let file = open_file(path)?;
        let size = file.metadata()?.len();
        let mut reader = BufReader::with_capacity(BUFFER, file);
        let is_compressed = compression::decode(BufReader::new(open_file(path)?))?.0;
        let members = if is_compressed {
            let (_, decoder) = compression::decode(reader)?;
            list(
                BufReader::with_capacity(BUFFER, Bounded { inner: decoder, left: max_bytes }),
                |stream, count| match io::copy(&mut stream.take(count), &mut io::sink())? {
                    copied if copied < count => Err(io::ErrorKind::UnexpectedEof.into()),
                    _ => Ok(()),
                },
            )
            .map_err(|error| match error {
                ArchiveError::Tar(TarError::Io(error)) if error.kind() == io::ErrorKind::FileTooLarge => {
                    ArchiveError::TooLarge { limit: max_bytes }
                }
                error => error,
            })?
        } else {
            list(&mut reader, |reader, count| {
                reader.seek_relative(i64::try_from(count).map_err(io::Error::other)?)?;
                // Seeking beyond the end is no error to the kernel.
                match reader.stream_position()? {
                    position if position > size => {
                        Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is truncated"))
                    }
                    _ => Ok(()),
                }
            })?
        };
        Ok(Archive { path: path.to_owned(), compressed: is_compressed, members })
    }

    pub(crate) fn blob(&self, name: &str) -> io::Result<Option<Blob<'static>>> {
        let (offset, size) = match self.members.get(name) {
            None => return Ok(None),
            Some(Member::File { offset, size }) => (*offset, *size),
            Some(Member::Link(target)) => match self.members.get(target) {
                Some(Member::File { offset, size }) => (*offset, *size),
                _ => return Ok(None),
            },
        };
        let mut file = open_file(&self.path)?;
        let stream: Box<dyn Read + Send> = if self.compressed {
            let (_, mut decoder) = compression::decode(BufReader::with_capacity(BUFFER, file))?;
            io::copy(&mut decoder.by_ref().take(offset), &mut io::sink())?;
            Box::new(decoder.take(size))
        } else {
            file.seek(SeekFrom::Start(offset))?;
            Box::new(file.take(size))
        };
        Ok(Some(Blob { size, stream }))
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is neither a directory nor a regular file")),
    }
}

/// Lists an archive's members, passing over their data with `skip`.
fn list<R: io::BufRead>(
    stream: R,
    skip: impl Fn(&mut R, u64) -> io::Result<()>,
) -> Result<HashMap<String, Member>, ArchiveError> {
    let mut reader = TarReader::new(stream);
    let mut members = HashMap::new();
    while let Some(entry) = reader.next_entry()? {
        let member = match entry.kind {
            Kind::Regular => Member::File { offset: reader.offset(), size: reader.remaining() },
            Kind::HardLink => Member::Link(member_name(&entry.link)),
            Kind::Symlink => Member::Link(link_target(&entry.path, &entry.link)),
            _ => continue,
        };
        if members.len() == MAX_MEMBERS {
            return Err(ArchiveError::TooManyMembers);
        }
        members.insert(member_name(&entry.path), member);
        reader.skip_data(&skip).map_err(TarError::Io)?;
    }
    Ok(members)
}

/// A member's name as manifests write it: without a leading `./`.
fn member_name(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    text.strip_prefix("./").unwrap_or(&text).to_owned()
}

/// What a link inside the archive points to: `../ID/layer.tar` beside its own directory.
fn link_target(path: &[u8], link: &[u8]) -> String {
    let path = member_name(path);
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    let link = String::from_utf8_lossy(link);
    for part in link.split('/') {
        match part {
            "" | "." => (),
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Ends a stream with an error when it gives more than a bound.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(count)
    }
}
