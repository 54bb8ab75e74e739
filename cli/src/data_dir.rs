//! Where Bulkhead keeps what outlives a sandbox: imported images; and the blocks of writable disks, which do not.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use containers::Snapshots;

/// Names another place.
pub(crate) const VARIABLE: &str = "BULKHEAD_DATA_DIR";

#[derive(Debug, Clone)]
pub(crate) struct DataDir {
    path: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum DataDirError {
    #[error("neither {VARIABLE} nor XDG_DATA_HOME nor HOME says where to keep imported images")]
    Nowhere,
    #[error("cannot use the data directory {}; {VARIABLE} names another place", path.display())]
    Unusable { path: PathBuf, source: io::Error },
}

impl DataDir {
    /// $BULKHEAD_DATA_DIR; or else /var/lib/bulkhead for root, and a place in the user's home for others.
    pub(crate) fn open() -> Result<Self, DataDirError> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let of_user = || match rustix::process::geteuid().is_root() {
            true => Some(PathBuf::from("/var/lib/bulkhead")),
            false => set("XDG_DATA_HOME")
                .or_else(|| set("HOME").map(|home| home.join(".local/share")))
                .map(|data| data.join("bulkhead")),
        };
        let path = set(VARIABLE).or_else(of_user).ok_or(DataDirError::Nowhere)?;
        // Supervisors, which run elsewhere, are to find it too.
        let path = std::path::absolute(&path).map_err(|source| DataDirError::Unusable { path, source })?;
        let data = Self { path };
        for directory in [&data.path, &data.images(), &data.scratch()] {
            let made = DirBuilder::new().mode(0o700).recursive(true).create(directory);
            made.map_err(|source| DataDirError::Unusable { path: directory.clone(), source })?;
        }
        Ok(data)
    }

    /// Imported images.
    pub(crate) fn images(&self) -> PathBuf {
        self.path.join("images")
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Containers, each with its record, log and disk.
    pub(crate) fn containers(&self) -> PathBuf {
        self.path.join("containers")
    }

    /// What users keep of containers as they ran.
    pub(crate) fn snapshots(&self) -> Snapshots {
        Snapshots::at(self.path.join("snapshots"))
    }

    /// Where writable disks have their blocks, in files without a name.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.path.join("scratch")
    }
}
