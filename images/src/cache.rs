//! The layers' files: one EROFS image for each layer, in one directory, named by diff_id. A layer's image depends on
//! nothing but its content; what lies below it in an image is the business of [`LayerCache::merge`].
//!
//! A file of that name is whole and proven, or it is not there. Several processes may import the same layer at the
//! same time: each makes the same file, and the first one's stays.

use std::path::{Path, PathBuf};
use std::{fs, io};

use thiserror::Error;

use crate::digest::Sha256;
use crate::erofs::Writer;
use crate::layer::{self, BlobCheck, DecodeError, Proven, UnpackError};
use crate::limits::Limits;
use crate::source::Blob;
use crate::staged::{self, StagedFile};
use crate::store::StoreError;

/// Directories of layers' files and of merged images.
#[derive(Clone, Debug)]
pub struct LayerCache {
    pub(crate) layers: PathBuf,
    pub(crate) merged: PathBuf,
}

/// A layer that is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the layer's uncompressed tar stream.
    pub diff_id: Sha256,
    /// Its EROFS image.
    pub path: PathBuf,
    /// Size of the image, in bytes.
    pub size: u64,
}

/// What keeps a layer from being imported.
#[derive(Debug, Error)]
pub enum ImportCause {
    /// Its blob is missing, or not what it should be.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Its content is refused.
    #[error(transparent)]
    Unpack(UnpackError),
    /// The disk is full.
    #[error("no space left in {}", .0.display())]
    NoSpace(PathBuf),
    /// Its image would be larger than the limit.
    #[error("its image takes more than the limit of {0} bytes")]
    TooLarge(u64),
    /// The image store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its image cannot be written.
    #[error("cannot write to {}: {source}", path.display())]
    Write {
        /// The directory of layers.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl LayerCache {
    /// Layers and merged images kept in this directory, which is made when the first one is.
    pub fn new(directory: impl AsRef<Path>) -> Self {
        let directory = directory.as_ref();
        LayerCache { layers: directory.join("layers"), merged: directory.join("merged") }
    }

    /// Removes what imports that were killed have left.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        [&self.layers, &self.merged].into_iter().try_for_each(|directory| match staged::sweep(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        })
    }

    /// The layer, if it is here.
    pub(crate) fn find(&self, diff_id: &Sha256) -> io::Result<Option<Layer>> {
        let path = self.path(diff_id);
        match path.metadata() {
            Ok(metadata) => Ok(Some(Layer { diff_id: *diff_id, path, size: metadata.len() })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a layer's file out of its blob, which is read once. `progress` learns how many bytes of it have been.
    pub(crate) fn import(
        &self,
        blob: Blob<'_>,
        check: &BlobCheck,
        limits: &Limits,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Proven, ImportCause> {
        let failed = |error| self.write_cause(error, limits);
        fs::create_dir_all(&self.layers).map_err(failed)?;
        let staged = StagedFile::new(&self.layers).map_err(failed)?;
        let mut writer = Writer::new(staged.handle().map_err(failed)?, limits.layer_bytes);
        let (mut tree, proven) = layer::decode(blob, check, limits, progress, |archive| {
            layer::unpack(archive, &mut writer, limits).map_err(|error| match error {
                UnpackError::Write(error) => failed(error),
                error => ImportCause::Unpack(error),
            })
        })?;
        let note = layer::take_note(&mut tree);
        writer.finish(&tree, uuid(&proven.diff_id), note).map_err(failed)?;
        staged.publish(&self.path(&proven.diff_id)).map_err(failed)?;
        Ok(proven)
    }

    /// Where a layer is, if it is here.
    pub(crate) fn path(&self, diff_id: &Sha256) -> PathBuf {
        self.layers.join(format!("{}.erofs", diff_id.hex()))
    }

    /// What a failed write means.
    fn write_cause(&self, error: io::Error, limits: &Limits) -> ImportCause {
        match error.kind() {
            io::ErrorKind::StorageFull => ImportCause::NoSpace(self.layers.clone()),
            io::ErrorKind::QuotaExceeded if error.raw_os_error().is_none() => {
                ImportCause::TooLarge(limits.layer_bytes)
            }
            _ => ImportCause::Write { path: self.layers.clone(), source: error },
        }
    }
}

/// An image's own identifier, by the digest that names it: so that the same layer makes the same image byte for byte.
pub(crate) fn uuid(digest: &Sha256) -> [u8; 16] {
    let mut uuid = [0; 16];
    uuid.iter_mut().zip(digest.bytes()).for_each(|(to, from)| *to = *from);
    uuid
}
