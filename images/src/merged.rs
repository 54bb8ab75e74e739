//! An image's layers as one disk: a merged EROFS image that has the metadata of all of them, and points for the files'
//! data into the layers' own files, which follow it. So an image costs its names and attributes, once, however many
//! layers it has; and the layers' data is in one file, and once in the page cache, for all images that share them.
//!
//! ```text
//!   merged/HEX.erofs        layers/HEX.erofs     layers/HEX.erofs
//! ┌────────────────────────┬───────────────────┬──────────────── ─
//! │ superblock, directories│ data  (metadata)  │ data  (metadata)
//! │ inodes ────────────────┼──▶ █████          │
//! │    └───────────────────┼───────────────────┼──▶ ████
//! └────────────────────────┴───────────────────┴──────────────── ─
//! ```

use std::path::{Path, PathBuf};
use std::{fs, io};

use thiserror::Error;

use crate::cache::{self, Layer, LayerCache};
use crate::digest::Sha256;
use crate::erofs::{BLOCK, Reader, Writer};
use crate::stack::{self, StackError};
use crate::staged::StagedFile;

/// Files which, one after the other, are an image's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergedImage {
    /// Read-only, each a multiple of 4096 bytes long. The first one holds the file system's superblock.
    pub files: Vec<PathBuf>,
}

/// Why layers cannot be merged.
#[derive(Debug, Error)]
pub enum MergeError {
    /// A layer is not here.
    #[error("layer {0} is missing; the image has to be imported again")]
    Missing(Sha256),
    /// A layer's file cannot be read, or holds what was never written to it.
    #[error(
        "cannot read layer {diff_id} from {}: {source}; if it is damaged, remove it and import the image again",
        path.display()
    )]
    Layer {
        /// The layer.
        diff_id: Sha256,
        /// Its file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The layers do not fit one file system.
    #[error("together, the layers take more than the 16 TiB of one disk")]
    TooLarge,
    /// The disk is full.
    #[error("no space left in {}", .0.display())]
    NoSpace(PathBuf),
    /// The merged image cannot be written or looked for.
    #[error("cannot keep merged images in {}: {source}", path.display())]
    Write {
        /// Their directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl LayerCache {
    /// The disk of an image with these layers, of which the lowest comes first. Merged now, if it was not before; a
    /// layer that needs nothing of the kind is the disk itself.
    pub fn merge(&self, diff_ids: &[Sha256]) -> Result<MergedImage, MergeError> {
        let layers = diff_ids.iter().map(|diff_id| self.layer(diff_id)).collect::<Result<Vec<_>, _>>()?;
        if let [layer] = layers.as_slice()
            && open(layer)?.note().stands_alone
        {
            return Ok(MergedImage { files: vec![layer.path.clone()] });
        }
        let (chain_id, path) = (chain_id(diff_ids), self.merged_path(diff_ids));
        if !is_whole(&path, &layers).map_err(|error| self.merge_error(error))? {
            self.merge_to(&path, &layers, &chain_id)?;
        }
        let files = std::iter::once(path).chain(layers.into_iter().map(|layer| layer.path)).collect();
        Ok(MergedImage { files })
    }

    /// Where the merged image of these layers is, if it is there.
    pub(crate) fn merged_path(&self, diff_ids: &[Sha256]) -> PathBuf {
        self.merged.join(format!("{}.erofs", chain_id(diff_ids).hex()))
    }

    fn layer(&self, diff_id: &Sha256) -> Result<Layer, MergeError> {
        let found = self.find(diff_id);
        let error = |source| MergeError::Layer { diff_id: *diff_id, path: self.path(diff_id), source };
        found.map_err(error)?.ok_or(MergeError::Missing(*diff_id))
    }

    fn merge_to(&self, path: &Path, layers: &[Layer], chain_id: &Sha256) -> Result<(), MergeError> {
        let failed = |error| self.merge_error(error);
        let readers = layers.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let (tree, blocks) = stack::merge(&readers).map_err(|StackError { layer, source }| {
            match layers.get(layer).filter(|_| source.kind() != io::ErrorKind::QuotaExceeded) {
                Some(layer) => unreadable(layer, source),
                None => failed(source),
            }
        })?;
        fs::create_dir_all(&self.merged).map_err(failed)?;
        let staged = StagedFile::new(&self.merged).map_err(failed)?;
        let writer = Writer::new(staged.handle().map_err(failed)?, u64::MAX);
        writer.finish_before(tree, cache::uuid(chain_id), blocks).map_err(failed)?;
        staged.publish(path).map_err(failed)
    }

    fn merge_error(&self, error: io::Error) -> MergeError {
        match error.kind() {
            io::ErrorKind::StorageFull => MergeError::NoSpace(self.merged.clone()),
            io::ErrorKind::QuotaExceeded if error.raw_os_error().is_none() => MergeError::TooLarge,
            _ => MergeError::Write { path: self.merged.clone(), source: error },
        }
    }
}

/// The name of a stack of layers (OCI image specification, config.md, "Layer ChainID").
fn chain_id(diff_ids: &[Sha256]) -> Sha256 {
    match diff_ids {
        [] => Sha256::of(b""),
        [first, rest @ ..] => {
            rest.iter().fold(*first, |chain, diff_id| Sha256::of(format!("{chain} {diff_id}").as_bytes()))
        }
    }
}

/// Whether the merged image is there and counts the blocks that these layers have. One that does not was made when a
/// layer's file was another, by an earlier version perhaps, and goes.
fn is_whole(path: &Path, layers: &[Layer]) -> io::Result<bool> {
    let merged = match Reader::open(path) {
        Ok(merged) => merged,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return fs::remove_file(path).map(|()| false);
        }
        Err(error) => return Err(error),
    };
    let size = layers.iter().fold(merged.file_size(), |sum, layer| sum.saturating_add(layer.size));
    match size == u64::from(merged.blocks()) * BLOCK {
        true => Ok(true),
        false => fs::remove_file(path).map(|()| false),
    }
}

/// A layer's image, which ends where it says.
fn open(layer: &Layer) -> Result<Reader, MergeError> {
    let reader = Reader::open(&layer.path).map_err(|source| unreadable(layer, source))?;
    match reader.file_size() == u64::from(reader.blocks()) * BLOCK {
        true => Ok(reader),
        false => Err(unreadable(layer, io::ErrorKind::UnexpectedEof.into())),
    }
}

fn unreadable(layer: &Layer, source: io::Error) -> MergeError {
    MergeError::Layer { diff_id: layer.diff_id, path: layer.path.clone(), source }
}
