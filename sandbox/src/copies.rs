//! Copies that are kept only until others have gone on from them: directories in the state directory, which is memory.
//!
//! ```text
//! STATE/.copies/XXXXXX/    locked (flock(2)) by who made it; one that can be locked is a dead maker's
//! ```

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;

use rustix::fs::{FlockOperation, flock};

use crate::record::StateDir;
use crate::snapshot::SnapshotFiles;

/// Below the state directory, where no sandbox's name begins with a dot.
const DIRECTORY: &str = ".copies";

/// A directory that goes with this value. Who has opened its files keeps them.
pub struct TemporaryCopy {
    _lock: File,
    directory: tempfile::TempDir,
}

impl TemporaryCopy {
    pub fn new(state: &StateDir) -> io::Result<Self> {
        let above = state.path().join(DIRECTORY);
        DirBuilder::new().mode(0o700).recursive(true).create(&above)?;
        // Held until the new one is locked, lest it be taken for a dead maker's.
        let one_at_a_time = File::open(&above)?;
        rustix::io::retry_on_intr(|| flock(&one_at_a_time, FlockOperation::LockExclusive))?;
        for left in fs::read_dir(&above)?.flatten() {
            let lock = File::open(left.path())?;
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                fs::remove_dir_all(left.path())?;
            }
        }
        let directory = tempfile::tempdir_in(&above)?;
        let lock = File::open(directory.path())?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { _lock: lock, directory })
    }

    pub fn files(&self) -> SnapshotFiles {
        SnapshotFiles::at(self.directory.path().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_maker_left_goes_and_what_is_in_use_stays() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::at(directory.path().join("state")).unwrap();
        let first = TemporaryCopy::new(&state).unwrap();
        let left = state.path().join(DIRECTORY).join("left");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("memory"), "old").unwrap();
        let second = TemporaryCopy::new(&state).unwrap();
        assert!(first.files().directory().is_dir() && second.files().directory().is_dir() && !left.exists());
        drop((first, second));
        assert_eq!(fs::read_dir(state.path().join(DIRECTORY)).unwrap().count(), 0);
    }
}
