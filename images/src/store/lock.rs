//! Who may do what at the same time. All locks are flock's: they go with whoever held them.
//!
//! In the order they are taken: the store's (`lock`), a layer's (`locks/HEX`), the records' (the directory `names`). A
//! thread holds at most one of each kind.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use rustix::fs::FlockOperation;

use super::{Store, StoreError};
use crate::digest::Sha256;

/// While it lives, no file is taken out of the store; names and IDs may be. A new container holds it from finding its
/// image until its record says that it uses the image. Whoever holds it must not call [`Store::collect`], which would
/// wait for ever.
#[derive(Debug)]
pub struct Hold {
    _file: File,
}

/// While it lives, whoever lives up to the locks above does not do the same.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Store {
    /// Waits until nothing is being removed, and keeps it so.
    pub fn hold(&self) -> Result<Hold, StoreError> {
        let path = self.directory.join("lock");
        let file = lock_file(&path, FlockOperation::LockShared);
        file.map(|file| Hold { _file: file }).map_err(|source| StoreError::io(&path, source))
    }

    /// Waits until nobody holds the store.
    pub(super) fn lock_all(&self) -> Result<Lock, StoreError> {
        let path = self.directory.join("lock");
        let file = lock_file(&path, FlockOperation::LockExclusive);
        file.map(|file| Lock { _file: file }).map_err(|source| StoreError::io(&path, source))
    }

    /// As [`Store::lock_all`], but does not wait: `None` if somebody holds it.
    pub(super) fn try_lock_all(&self) -> Result<Option<Lock>, StoreError> {
        let path = self.directory.join("lock");
        match lock_file(&path, FlockOperation::NonBlockingLockExclusive) {
            Ok(file) => Ok(Some(Lock { _file: file })),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(source) => Err(StoreError::io(&path, source)),
        }
    }

    /// Waits until nobody else makes this layer. Wants the store held, so that no collection removes the lock's file.
    pub(super) fn lock_layer(&self, diff_id: &Sha256) -> Result<Lock, StoreError> {
        let path = self.directory.join("locks").join(diff_id.hex());
        let file = lock_file(&path, FlockOperation::LockExclusive);
        file.map(|file| Lock { _file: file }).map_err(|source| StoreError::io(&path, source))
    }

    /// Waits until nobody else changes records. To be held for a moment only.
    pub(super) fn lock_records(&self) -> Result<Lock, StoreError> {
        let path = self.directory.join("names");
        let lock = || {
            let directory = File::open(&path)?;
            flock(&directory, FlockOperation::LockExclusive)?;
            Ok(directory)
        };
        lock().map(|file| Lock { _file: file }).map_err(|source| StoreError::io(&path, source))
    }
}

fn lock_file(path: &Path, operation: FlockOperation) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    flock(&file, operation)?;
    Ok(file)
}

fn flock(file: &File, operation: FlockOperation) -> io::Result<()> {
    Ok(rustix::io::retry_on_intr(|| rustix::fs::flock(file, operation))?)
}
