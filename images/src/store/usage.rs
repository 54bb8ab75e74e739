//! How much of the disk images take.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::{fs, io};

use oci_spec::image::Descriptor;

use super::records::Records;
use super::{Store, StoreError, StoredImage};
use crate::digest::Sha256;

/// What the store takes.
#[derive(Clone, Debug)]
pub struct Usage {
    /// Image by image, as [`Store::list`] has them.
    pub images: Vec<ImageUsage>,
    /// Bytes of all files, those that nothing leads to included.
    pub total: u64,
    /// Bytes of files that nothing leads to: any collection frees them.
    pub garbage: u64,
}

/// What an image takes.
#[derive(Clone, Debug)]
pub struct ImageUsage {
    /// The image.
    pub image: StoredImage,
    /// Bytes of its files that other images have as well.
    pub shared: u64,
    /// Bytes of its files that go when it goes.
    pub unique: u64,
}

/// A file of the store that is there for images.
pub(super) struct ImageFile {
    pub(super) path: PathBuf,
    /// Bytes it takes on the disk.
    pub(super) bytes: u64,
}

impl Store {
    /// What images take: their blobs and their layers' and merged file systems, as blocks on the disk.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let _hold = self.hold()?;
        let records = self.records()?;
        let files: BTreeMap<PathBuf, u64> =
            self.files()?.into_iter().map(|file| (file.path, file.bytes)).collect();
        let images = self.describe_all(&records)?;
        let mut parts = Vec::new();
        for image in &images {
            parts.push(self.files_of(image.manifest(), &records)?);
        }
        let mut owners: BTreeMap<&PathBuf, usize> = BTreeMap::new();
        parts.iter().flatten().for_each(|path| *owners.entry(path).or_default() += 1);
        let sum = |paths: &BTreeSet<PathBuf>, wanted: &dyn Fn(usize) -> bool| {
            let counted = paths.iter().filter(|path| wanted(owners.get(path).copied().unwrap_or(0)));
            counted.filter_map(|path| files.get(path)).sum()
        };
        let total = files.values().sum();
        let all = self.wanted_files(&records)?;
        let garbage = files.iter().filter(|(path, _)| !all.contains(*path)).map(|(_, bytes)| bytes).sum();
        let images = images.iter().zip(&parts).map(|(image, paths)| ImageUsage {
            image: image.clone(),
            shared: sum(paths, &|owners| owners > 1),
            unique: sum(paths, &|owners| owners == 1),
        });
        Ok(Usage { images: images.collect(), total, garbage })
    }

    /// All files that are there for images.
    pub(super) fn files(&self) -> Result<Vec<ImageFile>, StoreError> {
        let mut files = Vec::new();
        for directory in ["blobs/sha256", "layers", "merged", "locks"] {
            let directory = self.directory.join(directory);
            let failed = |source| StoreError::io(&directory, source);
            for entry in fs::read_dir(&directory).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                // Unfinished files are their makers' business.
                if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                    let bytes = entry.metadata().map_err(failed)?.blocks() * 512;
                    files.push(ImageFile { path: entry.path(), bytes });
                }
            }
        }
        Ok(files)
    }

    /// All files that the records lead to.
    pub(super) fn wanted_files(&self, records: &Records) -> Result<BTreeSet<PathBuf>, StoreError> {
        let mut wanted = BTreeSet::new();
        for record in records.images.values().chain(records.aside.values()) {
            wanted.extend(self.files_of(&record.manifest, records)?);
        }
        for record in records.names.values() {
            wanted.extend(self.files_of(&record.manifest, records)?);
        }
        Ok(wanted)
    }

    /// The files of the image of this manifest, with what its names stand for. Some may not be there.
    fn files_of(&self, manifest: &Descriptor, records: &Records) -> Result<BTreeSet<PathBuf>, StoreError> {
        let mut reach = self.reach(manifest)?;
        for record in records.names.values().filter(|record| record.manifest == *manifest) {
            self.follow(&record.target, &mut reach)?;
        }
        let mut files = BTreeSet::new();
        for descriptor in reach.documents.iter().chain(&reach.blobs) {
            files.insert(self.blobs.path(&self.digest_of(descriptor)?));
        }
        for manifest in &reach.manifests {
            let image = match self.read_image(manifest) {
                Ok(image) => image,
                // An image that has lost a document has no disk any more.
                Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let diff_ids: Vec<Sha256> = image.layers().iter().map(|layer| layer.diff_id).collect();
            files.extend(diff_ids.iter().map(|diff_id| self.cache.path(diff_id)));
            files.insert(self.cache.merged_path(&diff_ids));
        }
        Ok(files)
    }
}
