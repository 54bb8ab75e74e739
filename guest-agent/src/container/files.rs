//! Files the supervisor puts over paths of a container: /etc/hosts and its kind.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use agent_api::agent::File;
use libcontainer::oci_spec::OciSpecError;
use libcontainer::oci_spec::runtime::{Mount, MountBuilder};

#[derive(Debug, thiserror::Error)]
pub(super) enum FilesError {
    #[error("{0:?} is not an absolute path")]
    RelativeDestination(String),
    #[error("cannot write the file for {destination:?}")]
    Write { destination: String, source: io::Error },
    #[error("cannot mount the file for {destination:?}")]
    Mount { destination: String, source: OciSpecError },
}

/// Writes the files below `dir`; gives the mounts that bring them into the container.
pub(super) fn write(dir: &Path, files: &[File]) -> Result<Vec<Mount>, FilesError> {
    files.iter().enumerate().map(|(index, file)| write_one(&dir.join("files"), index, file)).collect()
}

fn write_one(dir: &Path, index: usize, file: &File) -> Result<Mount, FilesError> {
    let destination = file.destination.clone();
    if !Path::new(&destination).is_absolute() {
        return Err(FilesError::RelativeDestination(destination));
    }
    let path = dir.join(index.to_string());
    let write = || {
        fs::create_dir_all(dir)?;
        let mut written = OpenOptions::new().write(true).create_new(true).open(&path)?;
        written.write_all(&file.content)?;
        written.set_permissions(Permissions::from_mode(file.mode & 0o7777))
    };
    if let Err(source) = write() {
        return Err(FilesError::Write { destination, source });
    }
    MountBuilder::default()
        .destination(&destination)
        .typ("bind")
        .source(path)
        .options(["bind".to_owned(), "rprivate".to_owned()])
        .build()
        .map_err(|source| FilesError::Mount { destination, source })
}

/// Gives the files written below `dir` other contents, in the same order. Each stays the file that is bound into the
/// container.
pub(super) fn rewrite(dir: &Path, files: &[File]) -> Result<(), FilesError> {
    for (index, file) in files.iter().enumerate() {
        let rewrite = || {
            let mut written =
                OpenOptions::new().write(true).open(dir.join("files").join(index.to_string()))?;
            written.write_all(&file.content)?;
            // Only now, so that no reader finds it empty.
            written.set_len(file.content.len().try_into().map_err(io::Error::other)?)
        };
        if let Err(source) = rewrite() {
            return Err(FilesError::Write { destination: file.destination.clone(), source });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_with_its_mode_and_bound_over_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let hosts = File {
            destination: "/etc/hosts".to_owned(),
            content: b"127.0.0.1 localhost".to_vec(),
            mode: 0o640,
            ..Default::default()
        };
        let mounts = write(dir.path(), &[hosts]).unwrap();
        let source = mounts[0].source().as_ref().unwrap();
        assert_eq!(mounts[0].destination(), Path::new("/etc/hosts"));
        assert_eq!(fs::read(source).unwrap(), b"127.0.0.1 localhost");
        assert_eq!(fs::metadata(source).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn a_file_is_rewritten_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = |content: &[u8], mode| File {
            destination: "/etc/hosts".to_owned(),
            content: content.to_vec(),
            mode,
            ..Default::default()
        };
        let mounts = write(dir.path(), &[file(b"::1 long-name", 0o640)]).unwrap();
        let source = mounts[0].source().as_ref().unwrap();
        // As its mount does, this keeps to the file and not its name.
        let bound = fs::File::open(source).unwrap();
        rewrite(dir.path(), &[file(b"::1 name", 0)]).unwrap();
        assert_eq!(io::read_to_string(&bound).unwrap(), "::1 name");
        assert_eq!(bound.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn no_file_is_added_when_they_are_rewritten() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(rewrite(dir.path(), &[File::default()]), Err(FilesError::Write { .. })));
    }

    #[test]
    fn a_relative_place_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = File { destination: "etc/hosts".to_owned(), ..Default::default() };
        assert!(matches!(write(dir.path(), &[file]), Err(FilesError::RelativeDestination(_))));
    }
}
