//! An image to a registry.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};

use oci_spec::image::Descriptor;
use thiserror::Error;

use super::records::Records;
use super::{FindError, Progress, Store, StoreError, parallel};
use crate::digest::Sha256;
use crate::name::Name;
use crate::registry::{RegistryError, Repository};

/// What a push came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Digest of what the name stands for at the registry now.
    pub digest: Sha256,
    /// Size of that document, in bytes.
    pub size: u64,
    /// The index that was pulled, if only this platform's manifest was pushed: the others' images are not here.
    pub left_out: Option<Sha256>,
}

/// Why an image is not pushed.
#[derive(Debug, Error)]
pub enum PushError {
    /// It is not here.
    #[error(transparent)]
    Find(#[from] FindError),
    /// The registry does not take it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Blobs to send at the same time.
const PARALLEL: usize = 3;

impl Store {
    /// Sends the image of this name to the repository, which is the name's: what is missing there, byte for byte.
    pub fn push(
        &self,
        name: &Name,
        repository: &Repository,
        progress: &dyn Progress,
    ) -> Result<Pushed, PushError> {
        let _hold = self.hold()?;
        let records = self.records()?;
        let unknown = || FindError::Unknown(name.familiar());
        let record = records.names.get(name).ok_or_else(unknown)?;
        let (root, reach) = self.complete(&record.target, &record.manifest)?;
        if let Some(missing) = reach.missing.first() {
            return Err(self.damaged(&self.digest_of(missing)?, "it is missing".to_owned()).into());
        }
        let relatives = self.relatives(name, &records)?;
        parallel::for_each(&reach.blobs, PARALLEL, |blob, stop| {
            self.push_blob(blob, repository, &relatives, stop, progress)
        })?;
        for document in &reach.documents {
            let digest = self.digest_of(document)?;
            let content = self.blobs.document(&digest)?;
            let reference = if *document == root { name.reference() } else { digest.to_string() };
            repository.push_manifest(&reference, document.media_type(), &content)?;
        }
        let left_out = if root == record.target { None } else { Some(self.digest_of(&record.target)?) };
        Ok(Pushed { digest: self.digest_of(&root)?, size: root.size(), left_out })
    }

    /// The other repositories of the registry that may have a blob already, by blob.
    fn relatives(&self, name: &Name, records: &Records) -> Result<BTreeMap<Sha256, String>, StoreError> {
        let mut relatives = BTreeMap::new();
        for (other, record) in &records.names {
            if other.registry() == name.registry() && other.repository() != name.repository() {
                for blob in self.reach(&record.manifest)?.blobs {
                    relatives.insert(self.digest_of(&blob)?, other.repository().to_owned());
                }
            }
        }
        Ok(relatives)
    }

    fn push_blob(
        &self,
        blob: &Descriptor,
        repository: &Repository,
        relatives: &BTreeMap<Sha256, String>,
        stop: &AtomicBool,
        progress: &dyn Progress,
    ) -> Result<(), PushError> {
        let (digest, size) = (self.digest_of(blob)?, blob.size());
        if repository.has_blob(&digest)? {
            progress.exists(&digest);
            return Ok(());
        }
        if let Some(other) = relatives.get(&digest)
            && repository.mount_blob(&digest, other)?
        {
            progress.exists(&digest);
            return Ok(());
        }
        progress.begin(&digest, size);
        repository.push_blob(&digest, size, || {
            let (stream, _) = self.blobs.open(&digest)?;
            Ok(Metered { stream, digest, through: 0, stop, progress })
        })?;
        progress.done(&digest);
        Ok(())
    }
}

/// Tells how far a blob has been read.
struct Metered<'a> {
    stream: File,
    digest: Sha256,
    through: u64,
    /// Another blob has failed: this one need not go on.
    stop: &'a AtomicBool,
    progress: &'a dyn Progress,
}

impl Read for Metered<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("another blob failed"));
        }
        let count = self.stream.read(buffer)?;
        self.through += count as u64;
        self.progress.bytes(&self.digest, self.through);
        Ok(count)
    }
}
