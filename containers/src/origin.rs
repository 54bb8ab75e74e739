//! What a container goes on from when it starts for the first time, if it is a copy of another one.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use sandbox::SnapshotFiles;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::id;

/// Kept in the container's directory until its first run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Where the copy's files are.
    directory: std::path::PathBuf,
    /// Of the copy's state: another one of the same name is another copy.
    file: (u64, u64),
    /// The container's id in the guest that was copied.
    pub(crate) id: String,
}

impl Origin {
    /// A copy of the container `of`.
    pub fn new(files: &SnapshotFiles, of: &Config) -> io::Result<Self> {
        let file = device_and_inode(files)?;
        Ok(Self { directory: files.directory().to_owned(), file, id: of.id.clone() })
    }

    /// Whether the copy is still the one whose disk the container has.
    pub(crate) fn check(&self) -> io::Result<()> {
        if device_and_inode(&self.files())? == self.file {
            return Ok(());
        }
        Err(io::Error::other("another one has taken its place"))
    }

    pub fn files(&self) -> SnapshotFiles {
        SnapshotFiles::at(self.directory.clone())
    }
}

fn device_and_inode(files: &SnapshotFiles) -> io::Result<(u64, u64)> {
    let found = fs::metadata(files.state())?;
    Ok((found.dev(), found.ino()))
}

impl Config {
    /// The configuration of a copy of this container: another id and name, a hostname that follows the id if it did here,
    /// and a disk of its own, which it keeps.
    pub fn of_copy(&self, name: Option<String>) -> io::Result<Self> {
        let id = id::random()?;
        let hostname = match self.hostname == id::short(&self.id) {
            true => id::short(&id).to_owned(),
            false => self.hostname.clone(),
        };
        let mut files = self.files.clone();
        for file in &mut files {
            file.content = file.content.replace(&self.hostname, &hostname);
        }
        Ok(Self {
            name: name.unwrap_or_else(|| id::short(&id).to_owned()),
            created: jiff::Timestamp::now(),
            keeps_disk: true,
            files,
            hostname,
            id,
            ..self.clone()
        })
    }
}
