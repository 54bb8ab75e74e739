//! Where Bulkhead keeps what outlives a sandbox: imported layers; and the blocks of writable disks, which do not.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

/// Names another place.
const VARIABLE: &str = "BULKHEAD_DATA_DIR";

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
        let data = Self { path };
        for directory in [&data.path, &data.layers(), &data.scratch()] {
            let made = DirBuilder::new().mode(0o700).recursive(true).create(directory);
            made.map_err(|source| DataDirError::Unusable { path: directory.clone(), source })?;
        }
        Ok(data)
    }

    /// Imported layers, by content.
    pub(crate) fn layers(&self) -> PathBuf {
        self.path.join("layers")
    }

    /// Where writable disks have their blocks, in files without a name.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.path.join("scratch")
    }
}
