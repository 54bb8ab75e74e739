//! Copies that are kept only until others have gone on from them: directories in the state directory, which is memory.
//!
//! ```text
//! STATE/.copies/XXXXXX/    locked (flock(2)) by who made it; one that can be locked is a dead maker's
//! ```

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use rustix::fs::{FlockOperation, flock, statvfs};

use crate::record::StateDir;
use crate::snapshot::SnapshotFiles;

/// Below the state directory, where no sandbox's name begins with a dot.
const DIRECTORY: &str = ".copies";

/// Room that is left in the state directory, where all sandboxes have their records, in bytes.
const SPARE: u64 = 16 << 20;

/// A directory that goes with this value. Who has opened its files keeps them.
pub struct TemporaryCopy {
    // Before the lock, lest somebody else removes it, too.
    directory: tempfile::TempDir,
    _lock: File,
}

#[derive(Debug, thiserror::Error)]
pub enum RoomError {
    #[error("a copy wants {wanted} MiB in {}, where {free} are free", .path.display())]
    TooLittle { path: PathBuf, wanted: u64, free: u64 },
    #[error("cannot make a directory for a copy")]
    Make(#[from] io::Error),
}

impl TemporaryCopy {
    /// With room for so many bytes, and some for everybody else.
    pub fn new(state: &StateDir, bytes: u64) -> Result<Self, RoomError> {
        let found = statvfs(state.path()).map_err(io::Error::from)?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        let wanted = bytes.saturating_add(SPARE);
        if free < wanted {
            let path = state.path().to_owned();
            return Err(RoomError::TooLittle { path, wanted: wanted >> 20, free: free >> 20 });
        }
        Ok(Self::make(state)?)
    }

    fn make(state: &StateDir) -> io::Result<Self> {
        let above = state.path().join(DIRECTORY);
        DirBuilder::new().mode(0o700).recursive(true).create(&above)?;
        // Held until the new one is locked, lest it be taken for a dead maker's.
        let one_at_a_time = File::open(&above)?;
        rustix::io::retry_on_intr(|| flock(&one_at_a_time, FlockOperation::LockExclusive))?;
        for left in fs::read_dir(&above)?.flatten() {
            // One that goes meanwhile is nothing to see to.
            let Ok(lock) = File::open(left.path()) else { continue };
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                let _ = fs::remove_dir_all(left.path());
            }
        }
        let directory = tempfile::tempdir_in(&above)?;
        let lock = File::open(directory.path())?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { directory, _lock: lock })
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
        let first = TemporaryCopy::new(&state, 0).unwrap();
        assert!(matches!(TemporaryCopy::new(&state, u64::MAX), Err(RoomError::TooLittle { .. })));
        let left = state.path().join(DIRECTORY).join("left");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("memory"), "old").unwrap();
        let second = TemporaryCopy::new(&state, 0).unwrap();
        assert!(first.files().directory().is_dir() && second.files().directory().is_dir() && !left.exists());
        drop((first, second));
        assert_eq!(fs::read_dir(state.path().join(DIRECTORY)).unwrap().count(), 0);
    }
}
