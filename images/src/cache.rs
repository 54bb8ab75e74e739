//! The layers' files: one EROFS image for each layer, in one directory, named by diff_id. A layer that leaves out
//! entries for directories it has files in takes their attributes from the layers below: its name tells those, too.
//!
//! A file of that name is whole and proven, or it is not there. Several processes may import the same layer at the
//! same time: each makes the same file, and the first one's stays.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::digest::Sha256;
use crate::erofs::Writer;
use crate::image::{Image, LayerDescriptor};
use crate::layer::{self, BlobCheck, DecodeError, UnpackError};
use crate::limits::Limits;
use crate::reference::ImageReference;
use crate::staged::{self, StagedFile};

/// A directory of layer files.
#[derive(Clone, Debug)]
pub struct LayerCache {
    directory: PathBuf,
}

/// A layer, ready to be a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the layer's uncompressed tar stream.
    pub diff_id: Sha256,
    /// Its EROFS image.
    pub path: PathBuf,
    /// Size of the image, in bytes.
    pub size: u64,
}

/// Follows an import. Nothing is called for layers that are there already.
pub trait Progress {
    /// The import of a layer begins.
    fn begin(&mut self, _layer: &LayerDescriptor) {}
    /// So many bytes of its blob have been read by now.
    fn read(&mut self, _layer: &LayerDescriptor, _bytes: u64) {}
    /// The layer is imported.
    fn end(&mut self, _layer: &LayerDescriptor) {}
}

impl Progress for () {}

/// Why an image cannot be imported. None of the layer's bytes are left behind.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The directory of layers cannot be used.
    #[error("cannot keep image layers in {}: {source}", path.display())]
    Cache {
        /// The directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A layer cannot be imported.
    #[error("cannot import layer {diff_id} of image {reference}: {cause}")]
    Layer {
        /// The image.
        reference: ImageReference,
        /// The layer.
        diff_id: Sha256,
        /// The reason.
        #[source]
        cause: Box<ImportCause>,
    },
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
    /// A layer below it cannot be read.
    #[error("cannot look into the layers below it: {0}")]
    Below(#[source] io::Error),
    /// Its image would be larger than the limit.
    #[error("its image takes more than the limit of {0} bytes")]
    TooLarge(u64),
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
    /// Layers kept in this directory, which is made when the first one is.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        LayerCache { directory: directory.into() }
    }

    /// The image's layers, the lowest first. Those that are not there yet are imported.
    pub fn ensure(
        &self,
        image: &Image,
        limits: &Limits,
        progress: &mut dyn Progress,
    ) -> Result<Vec<Layer>, ImportError> {
        let error = |source| ImportError::Cache { path: self.directory.clone(), source };
        std::fs::create_dir_all(&self.directory).map_err(error)?;
        staged::sweep(&self.directory).map_err(error)?;
        let mut layers: Vec<Layer> = Vec::new();
        for layer in image.layers() {
            let names = Names::new(&self.directory, layer.diff_id, &layers);
            let path = match names.existing().map_err(error)? {
                Some(path) => path,
                None => {
                    progress.begin(layer);
                    let path =
                        self.import(image, layer, names, &layers, limits, progress).map_err(|cause| {
                            let (reference, diff_id) = (image.reference().clone(), layer.diff_id);
                            ImportError::Layer { reference, diff_id, cause: Box::new(cause) }
                        })?;
                    progress.end(layer);
                    path
                }
            };
            let size = path.metadata().map_err(error)?.len();
            layers.push(Layer { diff_id: layer.diff_id, path, size });
        }
        Ok(layers)
    }

    /// Makes a layer's file, which is to lie upon those `below`; its path.
    fn import(
        &self,
        image: &Image,
        layer: &LayerDescriptor,
        names: Names,
        below: &[Layer],
        limits: &Limits,
        progress: &mut dyn Progress,
    ) -> Result<PathBuf, ImportCause> {
        let failed = |error| self.write_cause(error, limits);
        let blob = image.blob(layer).map_err(DecodeError::Read)?;
        let staged = StagedFile::new(&self.directory).map_err(failed)?;
        let mut writer = Writer::new(staged.handle().map_err(failed)?, limits.layer_bytes);
        let check = BlobCheck { digest: layer.digest, size: layer.size, diff_id: layer.diff_id };
        let mut read = |bytes| progress.read(layer, bytes);
        let mut tree = layer::decode(blob, &check, limits, &mut read, |archive| {
            layer::unpack(archive, &mut writer, limits).map_err(|error| match error {
                UnpackError::Write(error) => failed(error),
                error => ImportCause::Unpack(error),
            })
        })?;
        let implied = layer::find_implied(&tree);
        let path = if implied.is_empty() { names.alone } else { names.upon };
        if !implied.is_empty() {
            let below: Vec<PathBuf> = below.iter().map(|layer| layer.path.clone()).collect();
            layer::copy_up(&mut tree, &implied, &below).map_err(ImportCause::Below)?;
        }
        let finished = writer.finish(&tree, uuid(&layer.diff_id)).and_then(|()| staged.publish(&path));
        finished.map_err(failed)?;
        Ok(path)
    }

    /// What a failed write means.
    fn write_cause(&self, error: io::Error, limits: &Limits) -> ImportCause {
        match error.kind() {
            io::ErrorKind::StorageFull => ImportCause::NoSpace(self.directory.clone()),
            io::ErrorKind::QuotaExceeded if error.raw_os_error().is_none() => {
                ImportCause::TooLarge(limits.layer_bytes)
            }
            _ => ImportCause::Write { path: self.directory.clone(), source: error },
        }
    }
}

/// The names a layer's file may have.
struct Names {
    /// By diff_id: the file is the same in every image.
    alone: PathBuf,
    /// By diff_id and all layers below, where it has attributes from those.
    upon: PathBuf,
}

impl Names {
    fn new(directory: &Path, diff_id: Sha256, below: &[Layer]) -> Names {
        let below: String = below.iter().map(|layer| layer.diff_id.to_string()).collect();
        let below = Sha256::of(below.as_bytes());
        Names {
            alone: directory.join(format!("{}.erofs", diff_id.hex())),
            upon: directory.join(format!("{}-on-{}.erofs", diff_id.hex(), below.hex())),
        }
    }

    /// The one that is there.
    fn existing(&self) -> io::Result<Option<PathBuf>> {
        for path in [&self.alone, &self.upon] {
            if path.try_exists()? {
                return Ok(Some(path.clone()));
            }
        }
        Ok(None)
    }
}

/// The image's own identifier: the layer's, so that the same layer makes the same image byte for byte.
fn uuid(diff_id: &Sha256) -> [u8; 16] {
    let mut uuid = [0; 16];
    uuid.iter_mut().zip(diff_id.bytes()).for_each(|(to, from)| *to = *from);
    uuid
}
