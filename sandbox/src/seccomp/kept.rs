//! Where a compiled profile is kept, and found again.

use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use agent_api::agent;
use oci_spec::runtime::LinuxSeccomp;
use protobuf::Message;
use ring::digest::{Context, SHA256};

use super::SeccompFilter;
use super::compile::{INSTRUCTION, MAX_PROGRAM};
use crate::installation::version_of;
use crate::record::StateDir;

/// Below the state directory, where no sandbox's name begins with a dot.
const DIRECTORY: &str = ".seccomp";

/// Each is some KiB; the one that was made first goes when there are more.
const MOST: usize = 32;

/// The place of one profile's program.
pub(super) struct Kept {
    directory: PathBuf,
    name: String,
}

impl Kept {
    /// Named after the profile and the program that compiles it.
    pub(super) fn of(profile: &LinuxSeccomp, state: &StateDir) -> Option<Self> {
        let mut digest = Context::new(&SHA256);
        digest.update(&version_of(Path::new("/proc/self/exe")).ok()?);
        digest.update(&serde_json::to_vec(profile).ok()?);
        let name = digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Some(Self { directory: state.path().join(DIRECTORY), name })
    }

    pub(super) fn load(&self) -> Option<SeccompFilter> {
        let bytes = fs::read(self.directory.join(&self.name)).ok()?;
        let agent::SeccompFilter { program, flags, .. } =
            agent::SeccompFilter::parse_from_bytes(&bytes).ok()?;
        let whole = !program.is_empty() && program.len() % INSTRUCTION == 0 && program.len() <= MAX_PROGRAM;
        whole.then_some(SeccompFilter { program, flags })
    }

    /// Nobody finds it before it is whole.
    pub(super) fn store(&self, filter: &SeccompFilter) -> io::Result<()> {
        DirBuilder::new().mode(0o700).recursive(true).create(&self.directory)?;
        self.make_room()?;
        let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
        file.write_all(
            &agent::SeccompFilter::from(filter.clone()).write_to_bytes().map_err(io::Error::other)?,
        )?;
        file.persist(self.directory.join(&self.name))?;
        Ok(())
    }

    fn make_room(&self) -> io::Result<()> {
        let mut files: Vec<(SystemTime, PathBuf)> = fs::read_dir(&self.directory)?
            .flatten()
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort();
        for (_, oldest) in files.iter().take((files.len() + 1).saturating_sub(MOST)) {
            fs::remove_file(oldest)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{LinuxSeccompAction, LinuxSeccompBuilder};

    use super::*;

    fn profile(error: u32) -> LinuxSeccomp {
        let builder = LinuxSeccompBuilder::default().default_action(LinuxSeccompAction::ScmpActErrno);
        builder.default_errno_ret(error).build().unwrap()
    }

    #[test]
    fn what_is_kept_is_the_same_profiles_and_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::at(directory.path().join("state")).unwrap();
        let compiled = SeccompFilter::of(&profile(1), &state).unwrap();
        let kept = Kept::of(&profile(1), &state).unwrap();
        assert_eq!(kept.load(), Some(compiled.clone()));
        assert_eq!(Kept::of(&profile(2), &state).unwrap().load(), None);
        for error in 2..50 {
            SeccompFilter::of(&profile(error), &state).unwrap();
        }
        assert_eq!(fs::read_dir(&kept.directory).unwrap().count(), MOST);
        assert_eq!(kept.load(), None, "the oldest goes");
        assert_eq!(SeccompFilter::of(&profile(1), &state).unwrap(), compiled);
    }

    #[test]
    fn what_was_cut_short_is_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::at(directory.path().join("state")).unwrap();
        let compiled = SeccompFilter::of(&profile(1), &state).unwrap();
        let kept = Kept::of(&profile(1), &state).unwrap();
        let file = kept.directory.join(&kept.name);
        let whole = fs::read(&file).unwrap();
        for length in 0..whole.len() {
            fs::write(&file, &whole[..length]).unwrap();
            assert_ne!(kept.load(), Some(SeccompFilter { program: Vec::new(), flags: 0 }));
            assert!(kept.load().is_none_or(|filter| filter == compiled));
        }
    }
}
