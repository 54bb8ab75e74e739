//! The last step of all that adds an image: its layers are here, now its documents come, then its records.

use std::io;

use oci_spec::image::{Descriptor, Digest, MediaType, SCHEMA_VERSION};
use serde_json::json;

use super::records::{ImageRecord, NameRecord};
use super::{Store, StoreError, StoredLayer};
use crate::digest::Sha256;
use crate::image::Documents;
use crate::name::Name;

/// An image that is in the store.
pub(super) struct Added {
    pub(super) id: Sha256,
    pub(super) target: Descriptor,
    pub(super) manifest: Descriptor,
}

impl Store {
    /// Adds an image. Without a manifest of its own, it gets one. Wants the store held, and the layers there.
    pub(super) fn add(&self, documents: &Documents, layers: &[StoredLayer]) -> Result<Added, StoreError> {
        let id = self.blobs.put(&documents.configuration)?;
        for document in &documents.verbatim {
            self.blobs.put(document)?;
        }
        let manifest = match &documents.manifest {
            Some(manifest) => manifest.clone(),
            None => self.put_manifest(&id, documents.configuration.len() as u64, layers)?,
        };
        let target = documents.target.clone().unwrap_or_else(|| manifest.clone());
        let _lock = self.lock_records()?;
        self.set_image(&id, &ImageRecord { manifest: manifest.clone() })?;
        Ok(Added { id, target, manifest })
    }

    /// Lets a name stand for an image. True if it did not before.
    pub(super) fn give_name(&self, name: &Name, added: &Added) -> Result<bool, StoreError> {
        let record = NameRecord {
            image: added.id.to_string(),
            target: added.target.clone(),
            manifest: added.manifest.clone(),
        };
        let _lock = self.lock_records()?;
        self.set_name(name, &record)
    }

    /// Writes the manifest of an image that came without: the same for the same configuration and blobs.
    fn put_manifest(&self, id: &Sha256, size: u64, layers: &[StoredLayer]) -> Result<Descriptor, StoreError> {
        let failed = |source| StoreError::io(&self.blobs.directory, source);
        let layer = |layer: &StoredLayer| descriptor(layer.media_type.clone(), layer.size, &layer.digest);
        let manifest = json!({
            "schemaVersion": SCHEMA_VERSION,
            "mediaType": MediaType::ImageManifest,
            "config": descriptor(MediaType::ImageConfig, size, id).map_err(failed)?,
            "layers": layers.iter().map(layer).collect::<io::Result<Vec<_>>>().map_err(failed)?,
        })
        .to_string();
        let digest = self.blobs.put(manifest.as_bytes())?;
        descriptor(MediaType::ImageManifest, manifest.len() as u64, &digest).map_err(failed)
    }
}

/// A descriptor of this blob.
pub(super) fn descriptor(media_type: MediaType, size: u64, digest: &Sha256) -> io::Result<Descriptor> {
    let digest: Digest = digest.to_string().parse().map_err(io::Error::other)?;
    Ok(Descriptor::new(media_type, size, digest))
}
