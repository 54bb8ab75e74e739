//! Where an image's files are: in a directory, or in an archive.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::archive::{Archive, ArchiveError};

/// The files of an image, by name.
pub(crate) enum Source {
    Directory(PathBuf),
    Archive(Archive),
}

/// A file to read, and its size.
pub(crate) struct Blob<'a> {
    pub(crate) size: u64,
    pub(crate) stream: Box<dyn Read + Send + 'a>,
}

impl Source {
    /// Opens what is at `path`; of an archive, at most `max_bytes` are decompressed.
    pub(crate) fn open(path: &Path, max_bytes: u64) -> Result<Source, ArchiveError> {
        if path.metadata()?.is_dir() {
            return Ok(Source::Directory(path.to_owned()));
        }
        Archive::open(path, max_bytes).map(Source::Archive)
    }

    /// The file of this name, if there is one.
    pub(crate) fn blob(&self, name: &str) -> io::Result<Option<Blob<'static>>> {
        match self {
            Source::Directory(path) => open_regular(&path.join(name))
                .map(|file| file.map(|(file, size)| Blob { size, stream: Box::new(file) })),
            Source::Archive(archive) => archive.blob(name),
        }
    }

    /// A document of at most `max` bytes, if there is one of this name.
    pub(crate) fn document(&self, name: &str, max: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(blob) = self.blob(name)? else { return Ok(None) };
        if blob.size > max {
            let text = format!("it has {} bytes; such a document may have {max}", blob.size);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        let mut data = Vec::new();
        blob.stream.take(max).read_to_end(&mut data)?;
        Ok(Some(data))
    }
}

/// Opens a regular file without waiting for what only looks like one (a pipe), and without following a last link
/// that the maker of a layout may have pointed anywhere.
pub(crate) fn open_regular(path: &Path) -> io::Result<Option<(File, u64)>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(descriptor) => File::from(descriptor),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok(Some((file, metadata.len())))
}
