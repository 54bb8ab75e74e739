//! A tar archive that a container made, into a directory of this machine.
//!
//! The archive is a stranger's: whatever its names and links say, nothing outside the directory is read or written.
//! Devices are left out, and so are set-user-id bits, unless owners are kept too.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use images::TarError;
use images::tar::{Entry, Kind, TarReader};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, chmodat, chownat, linkat, mkdirat,
    mknodat, openat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::landing::Landing;
use super::walk;

/// What could not be unpacked, and why.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    #[error(transparent)]
    Archive(#[from] TarError),
    #[error("cannot use the directory {directory}")]
    Directory { directory: String, source: io::Error },
    #[error("the container's archive names {0:?}, which is not below what is copied")]
    Outside(String),
    #[error("cannot overwrite {} with something of another kind", .0.display())]
    Kind(PathBuf),
    #[error("cannot write {}", .path.display())]
    Write { path: PathBuf, source: io::Error },
}

struct Unpacking<'a> {
    root: OwnedFd,
    landing: &'a Landing,
    keep_owners: bool,
    /// Whether the archive begins with `.`: its names have no first component to give way. Told by the first.
    is_content: Option<bool>,
    /// Directories that were made: they get their times and modes when everything is in them.
    made: Vec<(Vec<OsString>, Entry)>,
    skipped: Vec<PathBuf>,
}

/// Unpacks what is below the archive's first name as the landing says. Gives the devices that were left out.
pub(crate) fn unpack(
    archive: impl BufRead,
    landing: &Landing,
    keep_owners: bool,
) -> Result<Vec<PathBuf>, UnpackError> {
    let directory = landing.directory.clone();
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    // The user's own path: its links are followed.
    let root = rustix::fs::open(directory.as_str(), flags, Mode::empty())
        .map_err(|source| UnpackError::Directory { directory, source: source.into() })?;
    let mut unpacking =
        Unpacking { root, landing, keep_owners, is_content: None, made: Vec::new(), skipped: Vec::new() };
    let mut archive = TarReader::new(archive);
    while let Some(entry) = archive.next_entry()? {
        unpacking.entry(entry, &mut archive)?;
    }
    unpacking.finish()
}

impl Unpacking<'_> {
    fn entry(&mut self, entry: Entry, data: &mut impl Read) -> Result<(), UnpackError> {
        let place = self.place(&entry.path)?;
        let Some((name, above)) = place.split_last() else {
            // The directory that is landed in: it stays as it is.
            return Ok(());
        };
        let failed = |source| UnpackError::Write { path: walk::shown(&place), source };
        let parent = walk::directory(&self.root, above).map_err(failed)?;
        match entry.kind {
            Kind::Directory => {
                if self.make_directory(&parent, name, &place)? {
                    self.made.push((place, entry));
                }
                return Ok(());
            }
            Kind::CharDevice | Kind::BlockDevice => {
                self.skipped.push(walk::shown(&place));
                return Ok(());
            }
            _ => {}
        }
        self.make_way(&parent, name, &place)?;
        match entry.kind {
            Kind::Symlink => {
                symlinkat(OsStr::from_bytes(&entry.link), &parent, name).map_err(io::Error::from)
            }
            Kind::HardLink => self.link(&entry, &parent, name),
            Kind::Fifo => {
                mknodat(&parent, name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).map_err(Into::into)
            }
            _ => write_file(&parent, name, &entry, data),
        }
        .map_err(failed)?;
        if entry.kind == Kind::HardLink {
            return Ok(());
        }
        self.settle(&parent, name, &entry).map_err(failed)
    }

    /// Where an entry lies: its first component gives way to the landing's name.
    fn place(&mut self, name: &[u8]) -> Result<Vec<OsString>, UnpackError> {
        let outside = || UnpackError::Outside(String::from_utf8_lossy(name).into_owned());
        let components = walk::components(name).ok_or_else(outside)?;
        let is_content = *self.is_content.get_or_insert(components.is_empty());
        let below = components.into_iter().skip(usize::from(!is_content));
        let first = (self.landing.name != ".").then(|| OsString::from(&self.landing.name));
        Ok(first.into_iter().chain(below).collect())
    }

    /// Whether it is new.
    fn make_directory(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        place: &[OsString],
    ) -> Result<bool, UnpackError> {
        let path = || walk::shown(place);
        match mkdirat(parent, name, Mode::RWXU) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => match walk::open_directory(parent, name) {
                Ok(_) => Ok(false),
                Err(_) => Err(UnpackError::Kind(path())),
            },
            Err(error) => Err(UnpackError::Write { path: path(), source: error.into() }),
        }
    }

    /// Takes away what is of the entry's name already, unless that is a directory.
    fn make_way(&self, parent: &OwnedFd, name: &OsStr, place: &[OsString]) -> Result<(), UnpackError> {
        match unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => Err(UnpackError::Kind(walk::shown(place))),
            Err(error) => Err(UnpackError::Write { path: walk::shown(place), source: error.into() }),
        }
    }

    fn link(&mut self, entry: &Entry, parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
        let outside =
            || io::Error::new(io::ErrorKind::InvalidData, "it is a link to what is not below the copy");
        let target = self.place(&entry.link).map_err(|_| outside())?;
        let (target_name, above) = target.split_last().ok_or_else(outside)?;
        let directory = walk::directory(&self.root, above)?;
        // Only to what this copy could have made.
        let kind =
            FileType::from_raw_mode(statat(&directory, target_name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode);
        if !matches!(kind, FileType::RegularFile | FileType::Symlink | FileType::Fifo) {
            return Err(outside());
        }
        Ok(linkat(&directory, target_name, parent, name, AtFlags::empty())?)
    }

    /// Owner, mode and times of what was made.
    fn settle(&self, parent: &OwnedFd, name: &OsStr, entry: &Entry) -> io::Result<()> {
        if self.keep_owners {
            let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
            let (uid, gid) = (id(entry.uid).map(Uid::from_raw), id(entry.gid).map(Gid::from_raw));
            match chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(()) => {}
                // Who is not root keeps them as far as it may.
                Err(Errno::PERM) if !rustix::process::geteuid().is_root() => {}
                Err(error) => return Err(error.into()),
            }
        }
        if entry.kind != Kind::Symlink {
            let kept = if self.keep_owners { 0o7777 } else { 0o1777 };
            chmodat(parent, name, Mode::from_raw_mode(entry.mode & kept), AtFlags::empty())?;
        }
        let time = Timespec { tv_sec: entry.mtime.seconds, tv_nsec: entry.mtime.nanoseconds.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        Ok(utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// The directories, innermost first: a file written into one would change its time again.
    fn finish(mut self) -> Result<Vec<PathBuf>, UnpackError> {
        for (place, entry) in std::mem::take(&mut self.made).into_iter().rev() {
            let Some((name, above)) = place.split_last() else { continue };
            walk::directory(&self.root, above)
                .and_then(|parent| {
                    // A later entry may have put something else in its place.
                    walk::open_directory(&parent, name)?;
                    self.settle(&parent, name, &entry)
                })
                .map_err(|source| UnpackError::Write { path: walk::shown(&place), source })?;
        }
        Ok(self.skipped)
    }
}

/// Writes a regular file's data; what a sparse file does not have stays a hole.
fn write_file(parent: &OwnedFd, name: &OsStr, entry: &Entry, data: &mut impl Read) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?);
    match &entry.segments {
        None => {
            io::copy(data, &mut file)?;
        }
        Some(segments) => {
            for segment in segments {
                file.seek(SeekFrom::Start(segment.offset))?;
                io::copy(&mut data.by_ref().take(segment.length), &mut file)?;
            }
            file.set_len(entry.size)?;
        }
    }
    file.flush()
}
