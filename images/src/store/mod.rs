//! The image store: images by name and by content, shared by all of a user's sandboxes.
//!
//! | in its directory | holds |
//! |---|---|
//! | `version` | the layout's version |
//! | `lock` | no content: shared while something is added or a container is made, exclusive while files are removed |
//! | `blobs/sha256/HEX` | manifests, indexes, configurations and layers, byte for byte as they came |
//! | `layers/HEX.erofs`, `merged/HEX.erofs` | [`LayerCache`]'s files, made from the blobs |
//! | `images/HEX` | one record per image, by its configuration's digest: its manifest |
//! | `names/REGISTRY/REPOSITORY/TAG` | one record per name: what was pulled or loaded under it |
//! | `locks/HEX` | no content: held by who makes that layer |
//!
//! Records point to blobs, blobs to blobs, all of them by digest. What is written appears whole under its name and in
//! that order: a record is the last thing written and the first one removed. So a crash leaves at most files that no
//! record leads to, and the next collection takes them. No process ever waits for one that is gone, because all locks
//! are the kernel's.
//!
//! One file for each verb: `pull`, `push`, `load`, `save`, `commit`, `tag`, `remove`, `usage`, `verify`. They stand on
//! `records` and `names` (what stands for what), `blobs` and `layers` (content on its way in), `reach` (what leads to
//! what), `lock` (who may do what at the same time). More is in docs/store.md.

mod add;
mod blobs;
mod change;
mod commit;
mod disk;
mod find;
mod image;
mod layers;
mod load;
mod lock;
mod names;
mod parallel;
mod progress;
mod pull;
mod push;
mod reach;
mod records;
mod remove;
mod save;
mod tag;
mod usage;
mod verify;

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use blobs::Blobs;
pub use change::{Change, ChangeError};
pub use commit::{Commit, CommitError};
pub use disk::DiskError;
pub use find::FindError;
pub use image::{StoredImage, StoredLayer};
pub use layers::LayerError;
pub use load::{LoadError, Loaded};
pub use lock::Hold;
pub use progress::Progress;
pub use pull::{PullCause, PullError, PullOptions, Pulled};
pub use push::{PushError, Pushed};
pub use remove::{Collected, ImageUse, RemoveError, Removed};
pub use save::{Format, SaveError};
pub use tag::TagError;
pub use usage::{ImageUsage, Usage};

use crate::cache::LayerCache;
use crate::staged;

/// The layout's version, in the file of that name.
const VERSION: u64 = 1;

/// An image store. Any number of processes and threads may use one at the same time.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
    blobs: Blobs,
    cache: LayerCache,
}

/// The store itself cannot be used.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A file of it cannot be read or written.
    #[error("cannot use the image store's {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Its disk is full.
    #[error("no space left for images in {}", .0.display())]
    NoSpace(PathBuf),
    /// It is from the future.
    #[error(
        "the image store {} was made by a newer Bulkhead (layout {version}, this one knows {known}): upgrade, or name \
         another BULKHEAD_DATA_DIR",
        path.display()
    )]
    Newer {
        /// The store.
        path: PathBuf,
        /// What it says its version is.
        version: u64,
        /// The version this program makes.
        known: u64,
    },
    /// A file of it is not what Bulkhead writes.
    #[error("the image store's {} is damaged: {cause}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
}

impl Store {
    /// The store in this directory, which is made if it is not there.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Store, StoreError> {
        let directory = directory.into();
        let store = Store { blobs: Blobs::new(&directory), cache: LayerCache::new(&directory), directory };
        store.check_version()?;
        Ok(store)
    }

    /// The directory it is in.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its layers as file systems.
    pub fn layers(&self) -> &LayerCache {
        &self.cache
    }

    fn check_version(&self) -> Result<(), StoreError> {
        let path = self.directory.join("version");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.create(&path),
            Err(source) => return Err(StoreError::io(&path, source)),
        };
        match text.trim().parse() {
            Ok(version) if version > VERSION => {
                Err(StoreError::Newer { path: self.directory.clone(), version, known: VERSION })
            }
            Ok(_) => Ok(()),
            Err(_) => Err(StoreError::Damaged { path, cause: "it is no number".to_owned() }),
        }
    }

    /// Makes the directories; the version comes last, and says that they are there.
    fn create(&self, version: &Path) -> Result<(), StoreError> {
        for name in ["blobs/sha256", "layers", "merged", "images", "names", "locks"] {
            let path = self.directory.join(name);
            staged::create_directories(&path).map_err(|source| StoreError::io(&path, source))?;
        }
        let text = format!("{VERSION}\n");
        staged::replace(version, text.as_bytes()).map_err(|source| StoreError::io(version, source))
    }
}

impl StoreError {
    fn io(path: &Path, source: io::Error) -> StoreError {
        match source.kind() {
            io::ErrorKind::StorageFull => StoreError::NoSpace(path.to_owned()),
            _ => StoreError::Io { path: path.to_owned(), source },
        }
    }
}
