//! Whether the store holds what it says.

use std::io;

use super::{Store, StoreError};
use crate::digest::{Hashing, Sha256};

impl Store {
    /// Reads all blobs and follows all records: each blob is what its name says, and each record leads to a whole
    /// image. The first thing that is not so is the error.
    pub fn verify(&self) -> Result<(), StoreError> {
        let _hold = self.hold()?;
        for file in self.files()? {
            let name = file.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_blob = file.path.parent() == Some(self.blobs.directory.as_path());
            if is_blob && name != self.hash(&file.path)?.hex() {
                return Err(StoreError::Damaged {
                    path: file.path,
                    cause: "its digest is another".to_owned(),
                });
            }
        }
        let records = self.records()?;
        let named = records.names.values().map(|record| &record.manifest);
        for manifest in records.images.values().map(|record| &record.manifest).chain(named) {
            if let Some(missing) = self.reach(manifest)?.missing.first() {
                return Err(self.damaged(&self.digest_of(missing)?, "it is missing".to_owned()));
            }
            for layer in self.read_image(manifest)?.layers() {
                let path = self.cache.path(&layer.diff_id);
                path.metadata().map_err(|source| StoreError::io(&path, source))?;
            }
        }
        Ok(())
    }

    fn hash(&self, path: &std::path::Path) -> Result<Sha256, StoreError> {
        let hash = || {
            let mut content = Hashing::new(std::fs::File::open(path)?);
            io::copy(&mut content, &mut io::sink())?;
            Ok(content.finish())
        };
        hash().map_err(|source| StoreError::io(path, source))
    }
}
