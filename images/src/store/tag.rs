//! Names given to images that are here.

use thiserror::Error;

use super::add::Added;
use super::find::Meaning;
use super::{FindError, Store, StoreError, StoredImage};
use crate::name::Name;

/// Why an image does not get a name.
#[derive(Debug, Error)]
pub enum TagError {
    /// It is not here.
    #[error(transparent)]
    Find(#[from] FindError),
    /// A digest names what it names.
    #[error("cannot name an image {0}: a name with a digest cannot be given")]
    Digest(Name),
    /// The store cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Gives the image found as by [`Store::find`] one more name. What had the name before loses it.
    pub fn tag(&self, source: &str, name: &Name) -> Result<StoredImage, TagError> {
        if name.digest().is_some() {
            return Err(TagError::Digest(name.clone()));
        }
        let _hold = self.hold()?;
        let records = self.records()?;
        let (meaning, manifest) = records.resolve(source)?;
        let image = self.read_image(&manifest)?;
        let target = match meaning {
            Meaning::Name(source) => records.names.get(&source).map(|record| record.target.clone()),
            Meaning::Id(_) => None,
        };
        let target = target.unwrap_or_else(|| manifest.clone());
        self.give_name(name, &Added { id: image.id, target, manifest: manifest.clone() })?;
        Ok(self.describe(&manifest, &self.records()?)?)
    }
}
