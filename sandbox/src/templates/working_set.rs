//! The pages a start from a template writes, which the first one finds out for all that come after it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use vmm_api::PageRange;

const FILE: &str = "written.json";

/// The pages to be mapped before a guest runs.
pub(crate) enum WorkingSet {
    Known(Vec<PageRange>),
    Unknown(Learning),
}

/// Where they are to be noted.
#[derive(Clone)]
pub(crate) struct Learning {
    directory: PathBuf,
}

impl WorkingSet {
    pub(super) fn of(directory: &Path) -> Self {
        let known = fs::read(directory.join(FILE)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        known.map_or_else(|| Self::Unknown(Learning { directory: directory.to_owned() }), Self::Known)
    }

    pub(crate) fn learning(&self) -> Option<Learning> {
        match self {
            Self::Known(_) => None,
            Self::Unknown(learning) => Some(learning.clone()),
        }
    }
}

impl Learning {
    /// Of several who learn at once, the last one's word stands.
    pub(crate) fn note(&self, pages: &[PageRange]) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
        serde_json::to_writer(&mut file, pages)?;
        file.persist(self.directory.join(FILE))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_start_learns_the_next_one_knows() {
        let directory = tempfile::tempdir().unwrap();
        let learning = WorkingSet::of(directory.path()).learning().unwrap();
        let pages = vec![PageRange { first: 7, count: 2 }, PageRange { first: 11, count: 1 }];
        learning.note(&pages).unwrap();
        let WorkingSet::Known(known) = WorkingSet::of(directory.path()) else { panic!("not known") };
        assert_eq!(known, pages);
        learning.note(&[]).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_read_is_learnt_anew() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), "[[1,").unwrap();
        assert!(WorkingSet::of(directory.path()).learning().is_some());
    }
}
