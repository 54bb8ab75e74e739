//! An image of the store, as its documents describe it.

use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest, MediaType};
use serde::de::DeserializeOwned;

use super::{Store, StoreError};
use crate::digest::{DigestError, Sha256};
use crate::name::Name;
use crate::platform::Platform;

/// An image of the store.
#[derive(Clone, Debug)]
pub struct StoredImage {
    pub(super) id: Sha256,
    pub(super) names: Vec<Name>,
    pub(super) digests: Vec<Name>,
    pub(super) manifest: Descriptor,
    pub(super) document: Vec<u8>,
    pub(super) configuration: ImageConfiguration,
    pub(super) layers: Vec<StoredLayer>,
}

/// A layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLayer {
    /// Digest of its uncompressed tar stream.
    pub diff_id: Sha256,
    /// Digest of its blob, compressed or not.
    pub digest: Sha256,
    /// Size of the blob, in bytes.
    pub size: u64,
    /// The blob's media type.
    pub media_type: MediaType,
}

impl StoredImage {
    /// Its ID: the digest of its configuration.
    pub fn id(&self) -> Sha256 {
        self.id
    }

    /// Its names with a tag, sorted. An image without any is dangling.
    pub fn names(&self) -> &[Name] {
        &self.names
    }

    /// Its names by digest, as registries know it: `RepoDigests`.
    pub fn digests(&self) -> &[Name] {
        &self.digests
    }

    /// Its manifest.
    pub fn manifest(&self) -> &Descriptor {
        &self.manifest
    }

    /// Its configuration.
    pub fn configuration(&self) -> &ImageConfiguration {
        &self.configuration
    }

    /// Its configuration, byte for byte: it may have fields that [`StoredImage::configuration`] does not know, such as
    /// Docker's health check.
    pub fn document(&self) -> &[u8] {
        &self.document
    }

    /// When it was made (RFC 3339), if it says.
    pub fn created(&self) -> Option<&str> {
        self.configuration.created().as_deref()
    }

    /// What it runs on.
    pub fn platform(&self) -> Platform {
        Platform {
            os: self.configuration.os().clone(),
            architecture: self.configuration.architecture().clone(),
            variant: self.configuration.variant().clone(),
        }
    }

    /// Its layers, the lowest first.
    pub fn layers(&self) -> &[StoredLayer] {
        &self.layers
    }
}

impl Store {
    /// Reads the image of this manifest, which has no names yet.
    pub(super) fn read_image(&self, manifest: &Descriptor) -> Result<StoredImage, StoreError> {
        let document: ImageManifest = self.parse(&self.digest_of(manifest)?)?;
        let id = self.digest_of(document.config())?;
        let content = self.blobs.document(&id)?;
        let configuration: ImageConfiguration =
            serde_json::from_slice(&content).map_err(|error| self.damaged(&id, error.to_string()))?;
        let diff_ids = configuration.rootfs().diff_ids();
        if diff_ids.len() != document.layers().len() {
            return Err(
                self.damaged(&id, "it has not as many diff_ids as the manifest has layers".to_owned())
            );
        }
        let layers = document.layers().iter().zip(diff_ids).map(|(blob, diff_id)| {
            Ok(StoredLayer {
                diff_id: diff_id
                    .parse()
                    .map_err(|error: DigestError| self.damaged(&id, error.to_string()))?,
                digest: self.digest_of(blob)?,
                size: blob.size(),
                media_type: blob.media_type().clone(),
            })
        });
        Ok(StoredImage {
            id,
            names: Vec::new(),
            digests: Vec::new(),
            manifest: manifest.clone(),
            layers: layers.collect::<Result<_, StoreError>>()?,
            document: content,
            configuration,
        })
    }

    /// Bytes each of the image's layers takes unpacked, the lowest first: the sizes of `history` and, added up, of
    /// `images`.
    pub fn layer_sizes(&self, image: &StoredImage) -> Result<Vec<u64>, StoreError> {
        let size = |layer: &StoredLayer| match self.cache.find(&layer.diff_id) {
            Ok(found) => Ok(found.map_or(0, |found| found.size)),
            Err(source) => Err(StoreError::io(&self.cache.path(&layer.diff_id), source)),
        };
        image.layers.iter().map(size).collect()
    }

    /// Reads a document of the store.
    pub(super) fn parse<T: DeserializeOwned>(&self, digest: &Sha256) -> Result<T, StoreError> {
        let content = self.blobs.document(digest)?;
        serde_json::from_slice(&content).map_err(|error| self.damaged(digest, error.to_string()))
    }

    /// The digest a document of the store names.
    pub(super) fn digest_of(&self, descriptor: &Descriptor) -> Result<Sha256, StoreError> {
        descriptor.digest().as_ref().parse().map_err(|error: DigestError| StoreError::Damaged {
            path: self.blobs.directory.clone(),
            cause: error.to_string(),
        })
    }

    pub(super) fn damaged(&self, digest: &Sha256, cause: String) -> StoreError {
        StoreError::Damaged { path: self.blobs.path(digest), cause }
    }
}
