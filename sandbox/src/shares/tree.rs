//! What is about to be shared: a detached mount, which appears in no place of the host.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;

use file_server_api::Cache;
use rustix::fs::{CWD, FileType, fstat};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_change, move_mount,
    open_tree,
};

use crate::mounts::FsMount;
use crate::mounts::options::{self, MountOptions};

/// Where mounts are put together, in a namespace that nobody else sees: a directory that every host has, and that no file
/// system is made of.
const WORKBENCH: &str = "/proc";

/// A directory or a regular file of the host about to be shared.
#[derive(Debug)]
pub struct SharedTree {
    pub(super) mount: OwnedFd,
    pub(super) access: Access,
    pub(super) cache: Cache,
    is_directory: bool,
}

/// What the guest may do to a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    ReadOnly,
    Writable,
}

#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    #[error("cannot open {} to share it", .path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{} is neither a directory nor a regular file, and cannot be shared", .0.display())]
    Kind(PathBuf),
    #[error("cannot make the tree read-only")]
    ReadOnly(#[source] io::Error),
    #[error("no mount says what the tree is")]
    Nothing,
    #[error("cannot have a mount namespace to put the tree together in")]
    Namespace(#[source] io::Error),
    #[error("cannot mount {of} ({kind})")]
    Mount { kind: String, of: String, source: io::Error },
}

impl SharedTree {
    /// What is at `path`, and with `recursive` what is mounted below it.
    pub fn of_path(path: &Path, access: Access, recursive: bool, cache: Cache) -> Result<Self, TreeError> {
        let mount =
            detached(path, recursive).map_err(|source| TreeError::Open { path: path.to_owned(), source })?;
        Self::of(mount, path, access, cache)
    }

    /// What the mounts make, one over the other. Nothing of it is seen anywhere on the host, and nothing stays.
    pub fn of_mounts(mounts: &[FsMount], access: Access, cache: Cache) -> Result<Self, TreeError> {
        let last = mounts.last().ok_or(TreeError::Nothing)?;
        let access = if options::parse(&last.options).is_read_only() { Access::ReadOnly } else { access };
        let mount = match mounts {
            // Which may be a file.
            [FsMount { kind, source, options }] if options::parse(options).is_bind(kind) => {
                return Self::of_path(
                    Path::new(source),
                    access,
                    options::parse(options).is_recursive(),
                    cache,
                );
            }
            _ => put_together(mounts)?,
        };
        Self::of(mount, Path::new(&last.source), access, cache)
    }

    fn of(mount: OwnedFd, path: &Path, access: Access, cache: Cache) -> Result<Self, TreeError> {
        let found =
            fstat(&mount).map_err(|error| TreeError::Open { path: path.to_owned(), source: error.into() })?;
        let is_directory = match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => true,
            FileType::RegularFile => false,
            _ => return Err(TreeError::Kind(path.to_owned())),
        };
        if access == Access::ReadOnly {
            match host_calls::make_read_only(&mount, true) {
                // Before Linux 5.12, the file server alone sees to it.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOSYS.raw_os_error()) => {}
                done => done.map_err(TreeError::ReadOnly)?,
            }
        }
        Ok(Self { mount, access, cache, is_directory })
    }

    /// Whether it is one, and no regular file.
    pub fn is_directory(&self) -> bool {
        self.is_directory
    }
}

fn detached(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let recursion = if recursive { OpenTreeFlags::AT_RECURSIVE } else { OpenTreeFlags::empty() };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | recursion;
    Ok(open_tree(CWD, path, flags)?)
}

/// In a thread whose mount namespace ends with it; what was opened of that stays.
fn put_together(mounts: &[FsMount]) -> Result<OwnedFd, TreeError> {
    let work = || {
        host_calls::leave_mounts().map_err(TreeError::Namespace)?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .map_err(|error| TreeError::Namespace(error.into()))?;
        for each in mounts {
            let failed =
                |source| TreeError::Mount { kind: each.kind.clone(), of: each.source.clone(), source };
            put_on(each).map_err(failed)?;
        }
        detached(Path::new(WORKBENCH), true).map_err(TreeError::Namespace)
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, work).map_err(TreeError::Namespace)?;
        thread.join().unwrap_or_else(|_| Err(TreeError::Namespace(io::Error::other("its thread died"))))
    })
}

fn put_on(FsMount { kind, source, options }: &FsMount) -> io::Result<()> {
    let parsed = options::parse(options);
    if parsed.is_bind(kind) {
        let tree = detached(Path::new(source), parsed.is_recursive())?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        return Ok(move_mount(&tree, "", CWD, WORKBENCH, flags)?);
    }
    let MountOptions { flags, data } = parsed;
    let (directory, data) = options::shortened(&data);
    if let Some(directory) = directory {
        rustix::process::chdir(&directory)?;
    }
    let flags: MountFlags = flags;
    let data = std::ffi::CString::new(data)?;
    Ok(mount(source.as_str(), WORKBENCH, kind.as_str(), flags, data.as_c_str())?)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;
    use std::os::fd::AsFd;

    use rustix::fs::{Mode, OFlags, openat};

    use super::*;

    fn directory_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(directory.path().join(name), content).unwrap();
        }
        directory
    }

    fn read(tree: &SharedTree, name: &str) -> String {
        let file = openat(&tree.mount, name, OFlags::RDONLY, Mode::empty()).unwrap();
        io::read_to_string(File::from(file)).unwrap()
    }

    fn create(tree: &SharedTree, name: &str) -> rustix::io::Result<File> {
        openat(tree.mount.as_fd(), name, OFlags::CREATE | OFlags::WRONLY, Mode::from_bits_retain(0o600))
            .map(File::from)
    }

    fn mount_of(kind: &str, source: &str, options: &[&str]) -> FsMount {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        FsMount { kind: kind.to_owned(), source: source.to_owned(), options }
    }

    #[test]
    fn a_directory_is_shared_for_reading_or_for_writing_too() {
        let directory = directory_with(&[("file", "content")]);
        let tree = SharedTree::of_path(directory.path(), Access::Writable, false, Cache::Shared).unwrap();
        assert!(tree.is_directory());
        create(&tree, "new").unwrap().write_all(b"written").unwrap();
        assert_eq!(fs::read_to_string(directory.path().join("new")).unwrap(), "written");
        let tree = SharedTree::of_path(directory.path(), Access::ReadOnly, true, Cache::Shared).unwrap();
        assert_eq!(read(&tree, "file"), "content");
        assert_eq!(create(&tree, "newer").unwrap_err(), rustix::io::Errno::ROFS);
    }

    #[test]
    fn a_file_is_one_and_a_device_is_refused() {
        let directory = directory_with(&[("file", "content")]);
        let file = mount_of("bind", directory.path().join("file").to_str().unwrap(), &["rbind", "ro"]);
        let tree = SharedTree::of_mounts(&[file], Access::Writable, Cache::Shared).unwrap();
        assert!(!tree.is_directory());
        assert_eq!(tree.access, Access::ReadOnly);
        let null = SharedTree::of_path(Path::new("/dev/null"), Access::Writable, false, Cache::Shared);
        assert!(matches!(null, Err(TreeError::Kind(_))));
    }

    #[test]
    fn an_overlay_of_more_layers_than_a_page_names_is_put_together_and_seen_nowhere() {
        // Overlays on top of an overlay may be refused.
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let below = directory.path().join("a-directory-with-a-long-name-as-containerds-snapshots-have");
        let layers: Vec<_> = (0..90).map(|number| below.join(number.to_string()).join("fs")).collect();
        for (number, layer) in layers.iter().enumerate() {
            fs::create_dir_all(layer).unwrap();
            fs::write(layer.join(format!("of-{number}")), number.to_string()).unwrap();
        }
        let (upper, work) = (directory.path().join("upper"), directory.path().join("work"));
        fs::create_dir(&upper).unwrap();
        fs::create_dir(&work).unwrap();
        let lower: Vec<_> = layers.iter().map(|layer| layer.to_str().unwrap()).collect();
        let overlay = mount_of(
            "overlay",
            "overlay",
            &[
                &format!("lowerdir={}", lower.join(":")),
                &format!("upperdir={}", upper.display()),
                &format!("workdir={}", work.display()),
            ],
        );
        let tree = SharedTree::of_mounts(&[overlay], Access::Writable, Cache::Exclusive).unwrap();
        assert_eq!(read(&tree, "of-89"), "89");
        create(&tree, "new").unwrap().write_all(b"written").unwrap();
        assert_eq!(fs::read_to_string(upper.join("new")).unwrap(), "written");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(directory.path().to_str().unwrap()));
    }

    #[test]
    fn of_several_mounts_the_last_is_on_top() {
        let first = directory_with(&[("file", "first")]);
        let second = directory_with(&[("file", "second")]);
        let mounts =
            [&first, &second].map(|each| mount_of("bind", each.path().to_str().unwrap(), &["rbind"]));
        let tree = SharedTree::of_mounts(&mounts, Access::Writable, Cache::Shared).unwrap();
        assert_eq!(read(&tree, "file"), "second");
    }

    #[test]
    fn what_cannot_be_mounted_is_named() {
        let nothing = mount_of("ext4", "/nowhere/disk", &[]);
        let error = SharedTree::of_mounts(&[nothing], Access::Writable, Cache::Shared).unwrap_err();
        assert_eq!(error.to_string(), "cannot mount /nowhere/disk (ext4)");
    }
}
