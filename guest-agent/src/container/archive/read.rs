//! Files of a container on their way out.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use agent_api::agent::PathStat;
use rustix::fs::{OFlags, fstat, readlinkat};

use super::ArchiveError;
use super::path::Target;
use super::tree::{self, Entry};
use super::writer::Writer;
use crate::container::in_root::InRoot;

/// What is at the path; `None` if nothing is.
pub(in crate::container) fn stat(root: &InRoot, path: &str) -> Result<Option<PathStat>, ArchiveError> {
    let target = Target::new(path);
    let located = match Located::find(root, &target) {
        Ok(located) => located,
        Err(ArchiveError::NotFound(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let (stat, link_target) = match &located {
        Located::Directory(dir) => {
            (fstat(dir).map_err(|error| ArchiveError::at(&target.path)(error.into()))?, PathBuf::new())
        }
        Located::Entry { parent, entry } => {
            (entry.stat, link_target(root, &target, parent, entry).map_err(ArchiveError::at(&target.path))?)
        }
    };
    let modified_at_ns =
        stat.st_mtime.saturating_mul(1_000_000_000).saturating_add_unsigned(stat.st_mtime_nsec);
    Ok(Some(PathStat {
        name: target.path.file_name().unwrap_or("/".as_ref()).to_string_lossy().into_owned(),
        size: stat.st_size.cast_unsigned(),
        mode: stat.st_mode,
        modified_at_ns,
        link_target: link_target.to_string_lossy().into_owned(),
        ..Default::default()
    }))
}

/// Writes an archive of the file or tree at the path.
pub(in crate::container) fn write_path(
    root: &InRoot,
    path: &str,
    out: impl Write,
) -> Result<(), ArchiveError> {
    let target = Target::new(path);
    let located = Located::find(root, &target)?;
    let mut writer = Writer::new(out);
    let name = Path::new(&target.name);
    let written = match &located {
        Located::Directory(dir) => {
            writer.append_dir(name, dir).and_then(|()| append_contents(&mut writer, name, dir, 1))
        }
        Located::Entry { parent, entry } => append_tree(&mut writer, name, parent, entry, 0),
    };
    written.and_then(|()| writer.finish()).map_err(ArchiveError::at(&target.path))
}

/// Writes an archive of everything below the root.
pub(in crate::container) fn write_all(root: &InRoot, out: impl Write) -> Result<(), ArchiveError> {
    let path = Path::new("/");
    let dir = open_directory(root, path)?;
    let mut writer = Writer::new(out);
    append_contents(&mut writer, Path::new(""), &dir, 1)
        .and_then(|()| writer.finish())
        .map_err(ArchiveError::at(path))
}

/// What a path leads to.
enum Located {
    Directory(OwnedFd),
    Entry { parent: OwnedFd, entry: Entry },
}

impl Located {
    fn find(root: &InRoot, target: &Target) -> Result<Self, ArchiveError> {
        let Some((parent, name)) = target.path.parent().zip(target.path.file_name()) else {
            return open_directory(root, &target.path).map(Self::Directory);
        };
        if target.directory {
            return open_directory(root, &target.path).map(Self::Directory);
        }
        let parent = open_directory(root, parent).map_err(|error| match error {
            // The path that was asked for, not a part of it.
            ArchiveError::NotFound(_) => ArchiveError::NotFound(target.path.clone()),
            error => error,
        })?;
        match Entry::look_up(&parent, Path::new(name)) {
            Ok(entry) => Ok(Self::Entry { parent, entry }),
            Err(error) => Err(look_up_error(&target.path, error)),
        }
    }
}

pub(super) fn open_directory(root: &InRoot, path: &Path) -> Result<OwnedFd, ArchiveError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    root.resolve(path, flags).map_err(|error| look_up_error(path, error.into()))
}

fn look_up_error(path: &Path, error: io::Error) -> ArchiveError {
    match error.kind() {
        io::ErrorKind::NotFound => ArchiveError::NotFound(path.to_owned()),
        io::ErrorKind::NotADirectory => ArchiveError::NotADirectory(path.to_owned()),
        _ => ArchiveError::at(path)(error),
    }
}

/// Where a symbolic link leads in the container; its own words if that is nowhere.
fn link_target(root: &InRoot, target: &Target, parent: &OwnedFd, entry: &Entry) -> io::Result<PathBuf> {
    if entry.kind() != rustix::fs::FileType::Symlink {
        return Ok(PathBuf::new());
    }
    if let Some(path) = root.real_path(&target.path) {
        return Ok(path);
    }
    let words = readlinkat(parent, &*entry.name, Vec::new())?;
    let link =
        target.path.parent().unwrap_or(&target.path).join(std::ffi::OsStr::from_bytes(words.to_bytes()));
    Ok(Target::new(&link.to_string_lossy()).path)
}

fn append_tree(
    writer: &mut Writer<impl Write>,
    path: &Path,
    dir: impl AsFd,
    entry: &Entry,
    depth: usize,
) -> io::Result<()> {
    if !entry.is_dir() {
        return writer.append(path, dir, entry);
    }
    let opened = match tree::open_dir(dir, &entry.name) {
        // Gone meanwhile, or replaced.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        result => result?,
    };
    writer.append_dir(path, &opened)?;
    // Whoever copies a root does not mean what the kernel shows of itself in it.
    if depth > 0 && tree::is_of_kernel(&opened)? {
        return Ok(());
    }
    append_contents(writer, path, &opened, depth + 1)
}

fn append_contents(
    writer: &mut Writer<impl Write>,
    path: &Path,
    dir: &OwnedFd,
    depth: usize,
) -> io::Result<()> {
    tree::check_depth(depth)?;
    for entry in tree::list(dir)? {
        append_tree(writer, &path.join(&entry.name), dir, &entry, depth)?;
    }
    Ok(())
}
