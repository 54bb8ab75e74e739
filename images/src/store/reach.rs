//! What documents lead to: from an index or a manifest down to configurations and layers.

use std::collections::BTreeSet;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};

use super::{Store, StoreError};
use crate::digest::Sha256;
use crate::manifests::{is_index, is_manifest};

/// What a descriptor leads to in the store. Nothing is in it twice.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// Indexes and manifests, each after those it leads to.
    pub(super) documents: Vec<Descriptor>,
    /// Manifests alone.
    pub(super) manifests: Vec<Descriptor>,
    /// Configurations and layers.
    pub(super) blobs: Vec<Descriptor>,
    /// What is not here: other platforms' images, mostly.
    pub(super) missing: Vec<Descriptor>,
    seen: BTreeSet<Sha256>,
}

impl Store {
    /// Follows a descriptor as far as the store goes.
    pub(super) fn reach(&self, descriptor: &Descriptor) -> Result<Reach, StoreError> {
        let mut reach = Reach::default();
        self.follow(descriptor, &mut reach)?;
        Ok(reach)
    }

    /// What to hand on for what a name stands for: all of it if it is here, else the image's manifest.
    pub(super) fn complete(
        &self,
        target: &Descriptor,
        manifest: &Descriptor,
    ) -> Result<(Descriptor, Reach), StoreError> {
        let whole = self.reach(target)?;
        match whole.missing.is_empty() {
            true => Ok((target.clone(), whole)),
            false => Ok((manifest.clone(), self.reach(manifest)?)),
        }
    }

    /// The depth is bounded: an image's indexes were counted when it was added.
    pub(super) fn follow(&self, descriptor: &Descriptor, reach: &mut Reach) -> Result<(), StoreError> {
        let digest = self.digest_of(descriptor)?;
        if !reach.seen.insert(digest) {
            return Ok(());
        }
        if !self.blobs.has(&digest)? {
            reach.missing.push(descriptor.clone());
            return Ok(());
        }
        if is_index(descriptor.media_type()) {
            let index: ImageIndex = self.parse(&digest)?;
            index.manifests().iter().try_for_each(|inner| self.follow(inner, reach))?;
            reach.documents.push(descriptor.clone());
        } else if is_manifest(descriptor.media_type()) {
            let manifest: ImageManifest = self.parse(&digest)?;
            let blobs = std::iter::once(manifest.config()).chain(manifest.layers());
            blobs.into_iter().try_for_each(|blob| self.follow(blob, reach))?;
            reach.documents.push(descriptor.clone());
            reach.manifests.push(descriptor.clone());
        } else {
            reach.blobs.push(descriptor.clone());
        }
        Ok(())
    }
}
