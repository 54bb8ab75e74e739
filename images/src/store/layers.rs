//! Layers on their way into the store: each is read once, and becomes its blob and its file system at the same time.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use oci_spec::image::MediaType;
use thiserror::Error;

use super::{Progress, Store, StoreError, StoredLayer, parallel};
use crate::cache::ImportCause;
use crate::compression::Compression;
use crate::digest::Sha256;
use crate::image::LayerDescriptor;
use crate::layer::{self, BlobCheck, DecodeError, Proven};
use crate::limits::Limits;
use crate::source::Blob;

/// Why a layer is not imported. None of its bytes are left behind.
#[derive(Debug, Error)]
#[error("cannot import layer {layer}: {cause}")]
pub struct LayerError {
    /// The layer's diff_id.
    layer: Sha256,
    #[source]
    cause: Box<ImportCause>,
}

impl LayerError {
    /// What kept it from being imported.
    pub fn cause(&self) -> &ImportCause {
        &self.cause
    }
}

/// Layers that have to be in the store, and where they come from.
pub(super) struct Wanted<'a> {
    pub(super) layers: &'a [LayerDescriptor],
    /// Gives a layer's blob.
    pub(super) open: &'a (dyn Fn(&LayerDescriptor) -> io::Result<Blob<'static>> + Sync),
    pub(super) limits: &'a Limits,
    /// Layers to read at the same time.
    pub(super) parallel: usize,
    pub(super) progress: &'a dyn Progress,
}

/// How messages call a layer.
pub(super) fn key(layer: &LayerDescriptor) -> Sha256 {
    layer.digest.unwrap_or(layer.diff_id)
}

impl Store {
    /// Sees to it that blobs and file systems of these layers are there. Wants the store held.
    pub(super) fn ensure_layers(&self, wanted: &Wanted<'_>) -> Result<Vec<StoredLayer>, LayerError> {
        let is_same = |one: &LayerDescriptor, other: &LayerDescriptor| {
            one.diff_id == other.diff_id && one.digest == other.digest
        };
        let mut distinct: Vec<&LayerDescriptor> = Vec::new();
        for layer in wanted.layers {
            if !distinct.iter().any(|other| is_same(other, layer)) {
                distinct.push(layer);
            }
        }
        let made = parallel::for_each(&distinct, wanted.parallel, |layer, stop| {
            self.ensure_layer(layer, wanted, stop)
                .map_err(|cause| LayerError { layer: layer.diff_id, cause: Box::new(cause) })
        })?;
        let positions =
            wanted.layers.iter().filter_map(|layer| distinct.iter().position(|other| is_same(other, layer)));
        Ok(positions.filter_map(|position| made.get(position).cloned()).collect())
    }

    /// Removes what imports that were killed have left unfinished.
    pub(super) fn sweep_layers(&self) -> Result<(), StoreError> {
        let swept = self.blobs.sweep().and_then(|()| self.cache.sweep());
        swept.map_err(|source| StoreError::io(&self.directory, source))
    }

    fn ensure_layer(
        &self,
        layer: &LayerDescriptor,
        wanted: &Wanted<'_>,
        stop: &AtomicBool,
    ) -> Result<StoredLayer, ImportCause> {
        if let Some(present) = self.find_layer(layer)? {
            wanted.progress.exists(&key(layer));
            return Ok(present);
        }
        let _lock = self.lock_layer(&layer.diff_id)?;
        if let Some(present) = self.find_layer(layer)? {
            wanted.progress.exists(&key(layer));
            return Ok(present);
        }
        wanted.progress.begin(&key(layer), layer.size);
        let digest = self.make_layer(layer, wanted, stop)?;
        wanted.progress.done(&key(layer));
        let mut made = stored(layer, digest);
        if layer.digest.is_none() {
            made.media_type = self.media_type(&digest).map_err(|source| self.blob_error(source))?;
        }
        Ok(made)
    }

    /// The media type of a layer that came without.
    fn media_type(&self, digest: &Sha256) -> io::Result<MediaType> {
        let mut start = Vec::new();
        self.blobs.open(digest)?.0.take(4).read_to_end(&mut start)?;
        Ok(match Compression::of(&start) {
            Compression::None => MediaType::ImageLayer,
            Compression::Gzip => MediaType::ImageLayerGzip,
            Compression::Zstd => MediaType::ImageLayerZstd,
        })
    }

    /// The layer, if all of it is here.
    fn find_layer(&self, layer: &LayerDescriptor) -> Result<Option<StoredLayer>, ImportCause> {
        // Where nobody has named the blob it is mostly the content itself.
        let digest = key(layer);
        let is_here = self.blobs.has(&digest)? && self.find_file_system(&layer.diff_id)?;
        Ok(is_here.then(|| stored(layer, digest)))
    }

    fn find_file_system(&self, diff_id: &Sha256) -> Result<bool, StoreError> {
        let found = self.cache.find(diff_id);
        found.map(|found| found.is_some()).map_err(|source| StoreError::io(&self.cache.path(diff_id), source))
    }

    /// Makes what is missing of a layer; the digest of its blob.
    fn make_layer(
        &self,
        layer: &LayerDescriptor,
        wanted: &Wanted<'_>,
        stop: &AtomicBool,
    ) -> Result<Sha256, ImportCause> {
        if layer.digest.is_some() && self.blobs.has(&key(layer))? {
            let (file, size) = self.blobs.open(&key(layer)).map_err(DecodeError::Read)?;
            let blob = Blob { size, stream: Box::new(file) };
            return Ok(self.import_or_prove(layer, blob, wanted)?.digest);
        }
        let blob = (wanted.open)(layer).map_err(DecodeError::Read)?;
        let staged = self.blobs.stage().map_err(|source| self.blob_error(source))?;
        let copy = staged.handle().map_err(|source| self.blob_error(source))?;
        let failure = Mutex::new(None);
        let tee = Tee { stream: blob.stream, copy, failure: &failure, stop };
        let proven = self.import_or_prove(layer, Blob { size: blob.size, stream: Box::new(tee) }, wanted);
        // What went wrong with the copy is not the blob's fault.
        if let Some(source) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(self.blob_error(source));
        }
        let Proven { digest, .. } = proven?;
        staged.publish(&self.blobs.path(&digest)).map_err(|source| self.blob_error(source))?;
        Ok(digest)
    }

    /// Makes the layer's file system of the blob; or only proves the blob, if there is one already.
    fn import_or_prove(
        &self,
        layer: &LayerDescriptor,
        blob: Blob<'_>,
        wanted: &Wanted<'_>,
    ) -> Result<Proven, ImportCause> {
        let mut progress = |bytes| wanted.progress.bytes(&key(layer), bytes);
        let check = BlobCheck { digest: layer.digest, size: layer.size, diff_id: Some(layer.diff_id) };
        if !self.find_file_system(&layer.diff_id)? {
            return self.cache.import(blob, &check, wanted.limits, &mut progress);
        }
        let proven = layer::decode(blob, &check, wanted.limits, &mut progress, |_| Ok::<_, DecodeError>(()));
        Ok(proven.map(|((), proven)| proven)?)
    }

    pub(super) fn blob_error(&self, source: io::Error) -> ImportCause {
        StoreError::io(&self.blobs.directory, source).into()
    }
}

fn stored(layer: &LayerDescriptor, digest: Sha256) -> StoredLayer {
    StoredLayer { diff_id: layer.diff_id, digest, size: layer.size, media_type: layer.media_type.clone() }
}

/// Passes a stream on, and keeps a copy of it.
struct Tee<'a> {
    stream: Box<dyn Read + Send + 'a>,
    copy: File,
    /// Why the copy cannot be written.
    failure: &'a Mutex<Option<io::Error>>,
    /// Another layer has failed: this one need not go on.
    stop: &'a AtomicBool,
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("another layer failed"));
        }
        let count = self.stream.read(buffer)?;
        if let Err(error) = self.copy.write_all(buffer.get(..count).unwrap_or_default()) {
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            return Err(io::Error::other("the copy cannot be written"));
        }
        Ok(count)
    }
}
