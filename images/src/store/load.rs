//! Images from layouts and archives.

use std::path::Path;

use thiserror::Error;

use super::add::Added;
use super::layers::Wanted;
use super::{LayerError, Progress, Store, StoreError, StoredImage};
use crate::digest::Sha256;
use crate::image::{Image, OpenError};
use crate::limits::Limits;
use crate::name::Name;
use crate::platform::Platform;
use crate::reference::ImageReference;

/// An image that was loaded.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The image.
    pub image: StoredImage,
    /// The names it had in the archive and has now. Without any, `load` prints the ID.
    pub names: Vec<Name>,
}

/// Why images are not loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// There is no image, or a bad one.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A layer of one is bad, or cannot be kept.
    #[error("cannot load image {reference}: {cause}")]
    Layer {
        /// The image.
        reference: ImageReference,
        /// The reason.
        #[source]
        cause: LayerError,
    },
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Layers of an archive to read at the same time.
const PARALLEL: usize = 3;

impl Store {
    /// Takes over all images of a layout or an archive that are for this platform, with their names.
    pub fn load(
        &self,
        path: &Path,
        platform: &Platform,
        limits: &Limits,
        progress: &dyn Progress,
    ) -> Result<Vec<Loaded>, LoadError> {
        let images = Image::open_all(path, platform, limits)?;
        let _hold = self.hold()?;
        let mut loaded: Vec<(Added, Vec<Name>)> = Vec::new();
        for image in &images {
            let added = self.take_over(image, limits, progress)?;
            let names = image.documents.names.clone();
            for name in &names {
                self.give_name(name, &added)?;
            }
            // A layout has an entry for each of an image's names.
            match loaded.iter_mut().find(|(other, _)| other.id == added.id) {
                Some((_, others)) => others.extend(names),
                None => loaded.push((added, names)),
            }
        }
        let records = self.records()?;
        let describe = |(added, names): (Added, Vec<Name>)| {
            Ok(Loaded { image: self.describe(&added.manifest, &records)?, names })
        };
        loaded.into_iter().map(describe).collect()
    }

    /// Takes over the one image meant, without giving it a name. What is there already is not read again.
    pub fn load_unnamed(
        &self,
        reference: &ImageReference,
        platform: &Platform,
        limits: &Limits,
        progress: &dyn Progress,
    ) -> Result<StoredImage, LoadError> {
        let image = Image::open(reference, platform, limits)?;
        let _hold = self.hold()?;
        let id = Sha256::of(&image.documents.configuration);
        let manifest = match self.image_record(&id)? {
            Some(record) => record.manifest,
            None => self.take_over(&image, limits, progress)?.manifest,
        };
        Ok(self.describe(&manifest, &self.records()?)?)
    }

    fn take_over(&self, image: &Image, limits: &Limits, progress: &dyn Progress) -> Result<Added, LoadError> {
        self.sweep_layers()?;
        let layers = self.ensure_layers(&Wanted {
            layers: image.layers(),
            open: &|layer| image.blob(layer),
            limits,
            parallel: PARALLEL,
            progress,
        });
        let layers =
            layers.map_err(|cause| LoadError::Layer { reference: image.reference().clone(), cause })?;
        Ok(self.add(&image.documents, &layers)?)
    }
}
