//! Finding images: by name, ID or digest.

use oci_spec::image::Descriptor;
use thiserror::Error;

use super::records::{ImageRecord, NameRecord, Records};
use super::{Store, StoreError, StoredImage};
use crate::digest::Sha256;
use crate::name::Name;

/// Why an image is not found.
#[derive(Debug, Error)]
pub enum FindError {
    /// No image is called so.
    #[error("no such image: {0}")]
    Unknown(String),
    /// Several IDs begin so.
    #[error("the ID {prefix} is ambiguous: it begins {} images' IDs", .ids.len())]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// The images it may mean.
        ids: Vec<Sha256>,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// The image of this name (in any form [`Name::parse`] reads), of this ID or unique start of an ID (with or
    /// without `sha256:`), or of this `NAME@DIGEST`. A name goes before an ID.
    pub fn find(&self, text: &str) -> Result<StoredImage, FindError> {
        let _hold = self.hold()?;
        let records = self.records()?;
        let (_, manifest) = records.resolve(text)?;
        Ok(self.describe(&manifest, &records)?)
    }

    /// All images, the newest first, each once whatever its names.
    pub fn list(&self) -> Result<Vec<StoredImage>, StoreError> {
        let _hold = self.hold()?;
        self.describe_all(&self.records()?)
    }

    pub(super) fn describe_all(&self, records: &Records) -> Result<Vec<StoredImage>, StoreError> {
        let images = records.images.values().map(|record| self.describe(&record.manifest, records));
        let mut images = images.collect::<Result<Vec<_>, _>>()?;
        images.sort_by(|one, other| other.created().cmp(&one.created()).then(one.id.cmp(&other.id)));
        Ok(images)
    }

    /// Reads an image and says what it is called.
    pub(super) fn describe(
        &self,
        manifest: &Descriptor,
        records: &Records,
    ) -> Result<StoredImage, StoreError> {
        let mut image = self.read_image(manifest)?;
        for name in records.names_of(&image.id) {
            if let Some(digest) = records.digest_name(&name) {
                image.digests.push(digest);
            }
            if name.digest().is_none() {
                image.names.push(name);
            }
        }
        image.digests.sort();
        image.digests.dedup();
        Ok(image)
    }
}

/// What a user's text turns out to mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Name(Name),
    Id(Sha256),
}

impl Records {
    /// What the text means, and the manifest of that.
    pub(super) fn resolve(&self, text: &str) -> Result<(Meaning, Descriptor), FindError> {
        if let Ok(name) = Name::parse(text) {
            if let Some(record) = self.names.get(&name) {
                return Ok((Meaning::Name(name), record.manifest.clone()));
            }
            if let Some((name, record)) = self.find_digest(&name) {
                return Ok((Meaning::Name(name.clone()), record.manifest.clone()));
            }
        }
        self.find_id(text).map(|(id, record)| (Meaning::Id(id), record.manifest.clone()))
    }

    /// The name of an image whose name by digest this is.
    fn find_digest(&self, wanted: &Name) -> Option<(&Name, &NameRecord)> {
        let digest = wanted.digest()?.to_string();
        self.names.iter().find(|(name, record)| {
            name.registry() == wanted.registry()
                && name.repository() == wanted.repository()
                && [&record.target, &record.manifest]
                    .iter()
                    .any(|descriptor| descriptor.digest().as_ref() == digest)
        })
    }

    fn find_id(&self, text: &str) -> Result<(Sha256, &ImageRecord), FindError> {
        let unknown = || FindError::Unknown(text.chars().take(200).collect());
        let prefix = text.strip_prefix("sha256:").unwrap_or(text);
        if prefix.is_empty() || prefix.len() > 64 {
            return Err(unknown());
        }
        let found: Vec<_> = self.images.iter().filter(|(id, _)| id.hex().starts_with(prefix)).collect();
        match found.as_slice() {
            [] => Err(unknown()),
            [(id, record)] => Ok((**id, record)),
            _ => Err(FindError::Ambiguous {
                prefix: prefix.to_owned(),
                ids: found.iter().map(|(id, _)| **id).collect(),
            }),
        }
    }

    /// The name by digest of what a name stands for.
    pub(super) fn digest_name(&self, name: &Name) -> Option<Name> {
        let target = self.names.get(name)?.target.digest().as_ref().parse().ok()?;
        Some(name.with_digest(target))
    }
}
