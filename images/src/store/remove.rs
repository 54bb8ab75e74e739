//! Taking images out, and the files that only they needed.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use thiserror::Error;

use super::find::Meaning;
use super::records::{NameRecord, Records};
use super::{FindError, Store, StoreError, StoredImage};
use crate::digest::Sha256;
use crate::name::Name;

/// A container that uses an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageUse {
    /// The container, as messages shall call it.
    pub container: String,
    /// Whether it runs: then not even force removes its image.
    pub is_running: bool,
}

/// A line of Docker's report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// The image has lost a name, which may be one by digest.
    Untagged(Name),
    /// An image (by ID) is gone.
    Deleted(Sha256),
}

/// What a collection came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// In the order it was done.
    pub removed: Vec<Removed>,
    /// Bytes the disk has got back.
    pub bytes: u64,
}

/// Why an image is not removed.
#[derive(Debug, Error)]
pub enum RemoveError {
    /// It is not here.
    #[error(transparent)]
    Find(#[from] FindError),
    /// A container uses it.
    #[error("cannot remove image {image}: {} container {container} uses it{}",
        if *.is_running { "the running" } else { "the stopped" }, if *.is_running { "; stop it first" } else { "; force it, or remove the container first" })]
    InUse {
        /// The image, as it was asked for.
        image: String,
        /// The container.
        container: String,
        /// Whether it runs.
        is_running: bool,
    },
    /// An ID was given, and the image has names in several repositories.
    #[error(
        "cannot remove image {image}: it has names in several repositories; remove them by name, or force it"
    )]
    SeveralNames {
        /// The image, as it was asked for.
        image: String,
    },
    /// The store cannot be changed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Tells which container uses the image of an ID.
type InUse<'a> = dyn Fn(&Sha256) -> Option<ImageUse> + 'a;

impl Store {
    /// Takes a name from an image, and removes the image with its last name; or by ID, the image with all its names.
    /// `in_use` says what uses the image of an ID. The files go as soon as nobody holds the store.
    pub fn remove(&self, image: &str, force: bool, in_use: &InUse<'_>) -> Result<Vec<Removed>, RemoveError> {
        let removed = {
            let _lock = self.lock_records()?;
            self.remove_records(image, force, in_use)?
        };
        // Whoever adds an image now may want the files: then a later collection sees to them.
        if let Some(_lock) = self.try_lock_all()? {
            self.collect_files(in_use)?;
        }
        Ok(removed)
    }

    /// Removes the images that `unwanted` names and no container uses, and all files that nothing leads to. Waits
    /// until nobody holds the store; `in_use` is asked after that.
    pub fn collect(
        &self,
        unwanted: &dyn Fn(&StoredImage) -> bool,
        in_use: &InUse<'_>,
    ) -> Result<Collected, StoreError> {
        let _lock = self.lock_all()?;
        let mut removed = Vec::new();
        let images = self.describe_all(&self.records()?)?;
        for image in images.into_iter().filter(|image| unwanted(image)) {
            if in_use(&image.id()).is_none() {
                let _lock = self.lock_records()?;
                self.remove_image(&image.id(), &self.records()?, &mut removed)?;
            }
        }
        let bytes = self.collect_files(in_use)?;
        Ok(Collected { removed, bytes })
    }

    fn remove_records(
        &self,
        text: &str,
        force: bool,
        in_use: &InUse<'_>,
    ) -> Result<Vec<Removed>, RemoveError> {
        let records = self.records()?;
        let id = match records.resolve(text)?.0 {
            Meaning::Name(name) => {
                let id = records.names.get(&name).and_then(NameRecord::id);
                let id = id.ok_or_else(|| FindError::Unknown(text.to_owned()))?;
                if records.names_of(&id).len() > 1 {
                    let mut removed = Vec::new();
                    self.untag(&name, &records, std::slice::from_ref(&name), &mut removed)?;
                    return Ok(removed);
                }
                id
            }
            Meaning::Id(id) => {
                let names = records.names_of(&id);
                let repositories: BTreeSet<_> =
                    names.iter().map(|n| (n.registry(), n.repository())).collect();
                if repositories.len() > 1 && !force {
                    return Err(RemoveError::SeveralNames { image: text.to_owned() });
                }
                id
            }
        };
        if let Some(used) = in_use(&id).filter(|used| used.is_running || !force) {
            return Err(RemoveError::InUse {
                image: text.to_owned(),
                container: used.container,
                is_running: used.is_running,
            });
        }
        let mut removed = Vec::new();
        self.remove_image(&id, &records, &mut removed)?;
        Ok(removed)
    }

    /// Removes all records of an image. Wants the records locked.
    fn remove_image(
        &self,
        id: &Sha256,
        records: &Records,
        removed: &mut Vec<Removed>,
    ) -> Result<(), StoreError> {
        let names = records.names_of(id);
        for name in &names {
            self.untag(name, records, &names, removed)?;
        }
        self.set_aside(id)?;
        removed.push(Removed::Deleted(*id));
        Ok(())
    }

    /// Removes a name, one of those `going`. The name by digest goes with the last that stands for the same.
    fn untag(
        &self,
        name: &Name,
        records: &Records,
        going: &[Name],
        removed: &mut Vec<Removed>,
    ) -> Result<(), StoreError> {
        self.remove_name(name)?;
        removed.push(Removed::Untagged(name.clone()));
        let Some(digest) = records.digest_name(name).filter(|digest| digest != name) else { return Ok(()) };
        // Those going are removed in the order of the records.
        let mut left = records.names.keys().filter(|other| *other > name || !going.contains(other));
        if !left.any(|other| other != name && records.digest_name(other).as_ref() == Some(&digest)) {
            removed.push(Removed::Untagged(digest));
        }
        Ok(())
    }

    /// Removes all files that no record leads to; how many bytes that frees. Wants the store locked.
    fn collect_files(&self, in_use: &InUse<'_>) -> Result<u64, StoreError> {
        let records = self.records()?;
        for id in records.aside.keys() {
            if in_use(id).is_none() || records.images.contains_key(id) {
                self.forget(id)?;
            }
        }
        let wanted = self.wanted_files(&self.records()?)?;
        let mut bytes = 0;
        for file in self.files()? {
            if !wanted.contains(&file.path) {
                remove_file(&file.path)?;
                bytes += file.bytes;
            }
        }
        self.sweep_records()?;
        self.sweep_layers()?;
        Ok(bytes)
    }
}

fn remove_file(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io(path, error)),
        _ => Ok(()),
    }
}
