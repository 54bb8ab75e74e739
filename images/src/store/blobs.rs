//! Blobs by digest, byte for byte as they came.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::StoreError;
use crate::digest::Sha256;
use crate::manifests::{MAX_DOCUMENT, blob_name};
use crate::staged::{self, StagedFile};

/// A directory of blobs. Those in it are whole and proven.
#[derive(Clone, Debug)]
pub(super) struct Blobs {
    root: PathBuf,
    pub(super) directory: PathBuf,
}

impl Blobs {
    /// The blobs of the store in this directory.
    pub(super) fn new(root: &Path) -> Blobs {
        Blobs { root: root.to_owned(), directory: root.join("blobs/sha256") }
    }

    pub(super) fn path(&self, digest: &Sha256) -> PathBuf {
        self.root.join(blob_name(digest))
    }

    /// Whether the blob is there.
    pub(super) fn has(&self, digest: &Sha256) -> Result<bool, StoreError> {
        let path = self.path(digest);
        path.try_exists().map_err(|source| StoreError::io(&path, source))
    }

    /// A blob, and its size in bytes.
    pub(super) fn open(&self, digest: &Sha256) -> io::Result<(File, u64)> {
        let file = File::open(self.path(digest))?;
        let size = file.metadata()?.len();
        Ok((file, size))
    }

    /// A document's content.
    pub(super) fn document(&self, digest: &Sha256) -> Result<Vec<u8>, StoreError> {
        let mut content = Vec::new();
        let read = self.open(digest).and_then(|(file, _)| file.take(MAX_DOCUMENT).read_to_end(&mut content));
        read.map_err(|source| StoreError::io(&self.path(digest), source))?;
        Ok(content)
    }

    /// Keeps a document.
    pub(super) fn put(&self, content: &[u8]) -> Result<Sha256, StoreError> {
        let digest = Sha256::of(content);
        if !self.has(&digest)? {
            let written = self.stage().and_then(|staged| {
                staged.handle()?.write_all(content)?;
                staged.publish(&self.path(&digest))
            });
            written.map_err(|source| StoreError::io(&self.directory, source))?;
        }
        Ok(digest)
    }

    /// A blob to be.
    pub(super) fn stage(&self) -> io::Result<StagedFile> {
        StagedFile::new(&self.directory)
    }

    /// Removes what was left unfinished.
    pub(super) fn sweep(&self) -> io::Result<()> {
        staged::sweep(&self.directory)
    }
}
