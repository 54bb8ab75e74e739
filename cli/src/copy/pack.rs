//! Files of this machine into a tar archive.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use tar::{Builder, Header};

use super::landing::Source;
use super::place::{file_name, without_dots};

/// A source on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    path: PathBuf,
    pub source: Source,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    #[error("cannot read {}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} changed while it was read", .0.display())]
    Changed(PathBuf),
    #[error("cannot pass the archive on")]
    Write(#[source] io::Error),
}

/// What is at a path of this machine. A symbolic link is itself unless it is to be followed, or the path ends in a
/// slash.
pub(crate) fn look(path: &str, follow: bool) -> Result<Packed, PackError> {
    let failed = |source| PackError::Read { path: path.into(), source };
    let content = file_name(path) == ".";
    let follow = follow || content || path.ends_with('/');
    let metadata = if follow { fs::metadata(path) } else { fs::symlink_metadata(path) }.map_err(failed)?;
    if path.ends_with('/') && !metadata.is_dir() {
        return Err(failed(io::ErrorKind::NotADirectory.into()));
    }
    let mut found = PathBuf::from(path);
    let name = match file_name(path) {
        // What `..` is called, its parent knows.
        ".." => {
            found = fs::canonicalize(path).map_err(failed)?;
            found.file_name().map_or(".".to_owned(), |name| name.to_string_lossy().into_owned())
        }
        name => name.to_owned(),
    };
    if follow {
        found = fs::canonicalize(found).map_err(failed)?;
    } else if !content {
        found = without_dots(path).into();
    }
    Ok(Packed { path: found, source: Source { name, is_directory: metadata.is_dir() } })
}

/// Writes the source's archive; its entries' names begin with `name`.
pub(crate) fn pack(packed: &Packed, name: &str, out: impl Write) -> Result<(), PackError> {
    let mut builder = Builder::new(out);
    let mut waiting = vec![(packed.path.clone(), PathBuf::from(name))];
    while let Some((path, name)) = waiting.pop() {
        let failed = |source| PackError::Read { path: path.clone(), source };
        let metadata = fs::symlink_metadata(&path).map_err(failed)?;
        append(&mut builder, &path, &name, &metadata)?;
        if metadata.is_dir() {
            let mut children = Vec::new();
            for entry in fs::read_dir(&path).map_err(failed)? {
                let child = entry.map_err(failed)?.file_name();
                children.push((path.join(&child), name.join(&child)));
            }
            // The last one pushed is the next one read.
            children.sort_by(|(_, one), (_, other)| other.cmp(one));
            waiting.extend(children);
        }
    }
    builder.into_inner().and_then(|mut out| out.flush()).map_err(PackError::Write)
}

fn append(
    builder: &mut Builder<impl Write>,
    path: &Path,
    name: &Path,
    metadata: &Metadata,
) -> Result<(), PackError> {
    let failed = |source| PackError::Read { path: path.to_owned(), source };
    let kind = metadata.file_type();
    if kind.is_socket() {
        // It means nothing but to the process behind it.
        return Ok(());
    }
    let mut header = Header::new_gnu();
    header.set_metadata(metadata);
    if kind.is_symlink() {
        let target = fs::read_link(path).map_err(failed)?;
        return builder.append_link(&mut header, name, target).map_err(PackError::Write);
    }
    if !kind.is_file() {
        return builder.append_data(&mut header, name, io::empty()).map_err(PackError::Write);
    }
    let file = File::open(path).map_err(failed)?;
    let mut whole = Whole { file, left: metadata.len(), changed: false, failed: None };
    header.set_size(metadata.len());
    let appended = builder.append_data(&mut header, name, &mut whole);
    match (whole.failed, whole.changed) {
        (Some(error), _) => Err(failed(error)),
        (None, true) => Err(PackError::Changed(path.to_owned())),
        (None, false) => appended.map_err(PackError::Write),
    }
}

/// As many bytes of a file as its header says, and what kept it from giving them.
struct Whole {
    file: File,
    left: u64,
    changed: bool,
    failed: Option<io::Error>,
}

impl Read for Whole {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let wanted = buffer.get_mut(..most).unwrap_or_default();
        if wanted.is_empty() {
            return Ok(0);
        }
        match self.file.read(wanted) {
            Ok(0) => {
                self.changed = true;
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Ok(length) => {
                self.left -= length as u64;
                Ok(length)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                self.failed = Some(error);
                Err(io::ErrorKind::Other.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_tree_is_packed_under_its_new_name() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("tree");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(root.join("sub/file"), "data").unwrap();
        symlink("/etc/passwd", root.join("link")).unwrap();
        let found = look(root.to_str().unwrap(), false).unwrap();
        assert_eq!(found.source, Source { name: "tree".to_owned(), is_directory: true });
        let mut archive = Vec::new();
        pack(&found, "new", &mut archive).unwrap();
        let mut archive = tar::Archive::new(archive.as_slice());
        let entries: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let link = entry.link_name().unwrap().map(|link| link.into_owned());
                (entry.path().unwrap().into_owned(), link, entry.size())
            })
            .collect();
        let expected = [
            ("new", None, 0),
            ("new/link", Some("/etc/passwd"), 0),
            ("new/sub", None, 0),
            ("new/sub/file", None, 4),
        ]
        .map(|(path, link, size)| (PathBuf::from(path), link.map(PathBuf::from), size));
        assert_eq!(entries, expected);
    }

    #[test]
    fn links_are_followed_only_when_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("real")).unwrap();
        symlink("real", directory.path().join("link")).unwrap();
        let is_directory = |suffix: &str, follow| {
            let path = format!("{}/link{suffix}", directory.path().display());
            look(&path, follow).unwrap().source.is_directory
        };
        assert_eq!(
            [
                is_directory("", false),
                is_directory("", true),
                is_directory("/", false),
                is_directory("/.", false)
            ],
            [false, true, true, true]
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = look("/no/such/file", false).unwrap_err().to_string();
        assert!(error.contains("/no/such/file"));
    }
}
