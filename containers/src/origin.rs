//! What a container goes on from when it starts for the first time, if it is a copy of another one.

use std::io;

use sandbox::SnapshotFiles;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::id;

/// Kept in the container's directory until its first run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Where the copy's files are.
    directory: std::path::PathBuf,
    /// The container's id in the guest that was copied.
    pub(crate) id: String,
}

impl Origin {
    /// A copy of the container `of`.
    pub fn new(files: &SnapshotFiles, of: &Config) -> Self {
        Self { directory: files.directory().to_owned(), id: of.id.clone() }
    }

    pub fn files(&self) -> SnapshotFiles {
        SnapshotFiles::at(self.directory.clone())
    }
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
