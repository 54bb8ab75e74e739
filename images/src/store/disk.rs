//! An image's one disk.

use std::io;

use thiserror::Error;

use super::layers::Wanted;
use super::{LayerError, Store, StoreError, StoredImage, StoredLayer};
use crate::digest::Sha256;
use crate::image::LayerDescriptor;
use crate::limits::Limits;
use crate::manifests::blob_name;
use crate::merged::{MergeError, MergedImage};

/// Why an image does not become a disk.
#[derive(Debug, Error)]
pub enum DiskError {
    /// A layer's file was lost, and cannot be made again.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The layers cannot be merged.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// The image's disk. Layers whose files were lost are imported again from their blobs.
    pub fn disk(&self, image: &StoredImage, limits: &Limits) -> Result<MergedImage, DiskError> {
        let diff_ids: Vec<Sha256> = image.layers().iter().map(|layer| layer.diff_id).collect();
        match self.cache.merge(&diff_ids) {
            Err(MergeError::Missing(_)) => (),
            merged => return Ok(merged?),
        }
        let _hold = self.hold()?;
        let layers: Vec<LayerDescriptor> = image.layers().iter().map(describe).collect();
        self.ensure_layers(&Wanted {
            layers: &layers,
            open: &|layer| {
                Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("{} is missing from the store", layer.name),
                ))
            },
            limits,
            parallel: 1,
            progress: &(),
        })?;
        Ok(self.cache.merge(&diff_ids)?)
    }
}

fn describe(layer: &StoredLayer) -> LayerDescriptor {
    LayerDescriptor {
        diff_id: layer.diff_id,
        digest: Some(layer.digest),
        size: layer.size,
        media_type: layer.media_type.clone(),
        name: blob_name(&layer.digest),
    }
}
