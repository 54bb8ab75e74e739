//! The records: which manifest a name and an image's ID stand for. All else in the store is there because a record
//! leads to it.
//!
//! An image that is removed while a container uses it, or while files cannot be removed, has its record set aside: it
//! is found no more, and goes with the first collection that finds it unused.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::image::Descriptor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, names};
use crate::digest::Sha256;
use crate::name::Name;
use crate::staged;

/// What a record set aside ends in.
const ASIDE: &str = "removed";

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NameRecord {
    /// The image's ID.
    pub(super) image: String,
    /// What the name stood for where the image came from: an index or the manifest.
    pub(super) target: Descriptor,
    /// The image's manifest.
    pub(super) manifest: Descriptor,
}

/// What an ID stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ImageRecord {
    /// The image's manifest.
    pub(super) manifest: Descriptor,
}

/// All records at one time.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) names: BTreeMap<Name, NameRecord>,
    pub(super) images: BTreeMap<Sha256, ImageRecord>,
    /// Images removed but not yet gone.
    pub(super) aside: BTreeMap<Sha256, ImageRecord>,
}

impl NameRecord {
    /// The image's ID; none if the record is damaged.
    pub(super) fn id(&self) -> Option<Sha256> {
        self.image.parse().ok()
    }
}

impl Records {
    /// The names of an image.
    pub(super) fn names_of(&self, id: &Sha256) -> Vec<Name> {
        let named = self.names.iter().filter(|(_, record)| record.id() == Some(*id));
        named.map(|(name, _)| name.clone()).collect()
    }
}

impl Store {
    /// Reads all records.
    pub(super) fn records(&self) -> Result<Records, StoreError> {
        let mut records = Records::default();
        let root = self.directory.join("names");
        for registry in list(&root)? {
            for repository in list(&registry)? {
                for path in list(&repository)? {
                    let Some(name) = path.strip_prefix(&root).ok().and_then(names::decode) else { continue };
                    if let Some(record) = read(&path)? {
                        records.names.insert(name, record);
                    }
                }
            }
        }
        for path in list(&self.directory.join("images"))? {
            let Some((id, is_aside)) = decode_id(&path) else { continue };
            if let Some(record) = read(&path)? {
                let images = if is_aside { &mut records.aside } else { &mut records.images };
                images.insert(id, record);
            }
        }
        Ok(records)
    }

    /// What an ID stands for, if it is known.
    pub(super) fn image_record(&self, id: &Sha256) -> Result<Option<ImageRecord>, StoreError> {
        read(&self.image_path(id))
    }

    /// Lets a name stand for something. True if it did not before.
    pub(super) fn set_name(&self, name: &Name, record: &NameRecord) -> Result<bool, StoreError> {
        let path = self.name_path(name);
        if read(&path)?.as_ref() == Some(record) {
            return Ok(false);
        }
        write(&path, record).map(|()| true)
    }

    /// Lets an ID stand for a manifest.
    pub(super) fn set_image(&self, id: &Sha256, record: &ImageRecord) -> Result<(), StoreError> {
        let path = self.image_path(id);
        match read(&path)?.as_ref() == Some(record) {
            true => Ok(()),
            false => write(&path, record),
        }
    }

    pub(super) fn remove_name(&self, name: &Name) -> Result<(), StoreError> {
        remove(&self.name_path(name))
    }

    /// Sets an image's record aside.
    pub(super) fn set_aside(&self, id: &Sha256) -> Result<(), StoreError> {
        let path = self.image_path(id);
        match fs::rename(&path, path.with_extension(ASIDE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io(&path, error)),
            _ => Ok(()),
        }
    }

    /// Removes an image's record that was set aside.
    pub(super) fn forget(&self, id: &Sha256) -> Result<(), StoreError> {
        remove(&self.image_path(id).with_extension(ASIDE))
    }

    /// Removes what was left unfinished, and directories of names where there is none any more.
    pub(super) fn sweep_records(&self) -> Result<(), StoreError> {
        let sweep = |path: &Path| staged::sweep(path).map_err(|source| StoreError::io(path, source));
        sweep(&self.directory.join("images"))?;
        for registry in list(&self.directory.join("names"))? {
            for repository in list(&registry)? {
                sweep(&repository)?;
                // Those that hold names stay, as they are not empty.
                let _ = fs::remove_dir(&repository);
            }
            let _ = fs::remove_dir(&registry);
        }
        Ok(())
    }

    fn name_path(&self, name: &Name) -> PathBuf {
        self.directory.join("names").join(names::encode(name))
    }

    fn image_path(&self, id: &Sha256) -> PathBuf {
        self.directory.join("images").join(id.hex())
    }
}

fn decode_id(path: &Path) -> Option<(Sha256, bool)> {
    let is_aside = match path.extension() {
        None => false,
        Some(extension) if extension == ASIDE => true,
        Some(_) => return None,
    };
    let id = format!("sha256:{}", path.file_stem()?.to_str()?).parse().ok()?;
    Some((id, is_aside))
}

/// The paths in a directory, none if it is gone or no directory.
fn list(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(source) => return Err(StoreError::io(directory, source)),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    paths.collect::<io::Result<_>>().map_err(|source| StoreError::io(directory, source))
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let content = match fs::read(path) {
        Ok(content) => content,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(source) => return Err(StoreError::io(path, source)),
    };
    let damaged =
        |error: serde_json::Error| StoreError::Damaged { path: path.to_owned(), cause: error.to_string() };
    serde_json::from_slice(&content).map(Some).map_err(damaged)
}

fn write(path: &Path, record: &impl Serialize) -> Result<(), StoreError> {
    let error = |source| StoreError::io(path, source);
    let content = serde_json::to_vec(record).map_err(|source| error(source.into()))?;
    let directory = path.parent().unwrap_or(path);
    staged::create_directories(directory).and_then(|()| staged::replace(path, &content)).map_err(error)
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io(path, error)),
        _ => Ok(()),
    }
}
