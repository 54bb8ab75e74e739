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
    fn a_relative_place_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = File { destination: "etc/hosts".to_owned(), ..Default::default() };
        assert!(matches!(write(dir.path(), &[file]), Err(FilesError::RelativeDestination(_))));
    }
}
