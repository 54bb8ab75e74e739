//! What differs in a container from its image: the upper directory of its overlay beside the image below
//! (Linux Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories").

use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::ArchiveError;
use super::tree::{self, Entry};

/// Where mounts are put over every container. An image need not have these; the empty files and directories
/// made in their place are no change of the container's own, as they are in no layer of Docker's.
const MOUNT_POINTS: [&str; 11] = [
    "dev",
    "dev/console",
    "dev/pts",
    "dev/shm",
    "etc/hostname",
    "etc/hosts",
    "etc/resolv.conf",
    "proc",
    "sbin/docker-init",
    "sys",
    "usr/sbin/docker-init",
];

/// The attribute of a directory that hides what is below it in the image.
const OPAQUE: &str = "trusted.overlay.opaque";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Added,
    Changed,
    Deleted,
}

/// One name in a directory of the upper side.
pub(super) struct Child {
    pub entry: Entry,
    pub kind: Kind,
    /// Whether a whiteout says that it is deleted, rather than an opaque directory.
    pub whiteout: bool,
    /// The same name in the image.
    lower: Option<Entry>,
}

/// A directory that is there on the upper side.
pub(super) struct Directory {
    /// From the root, without a leading slash.
    path: PathBuf,
    pub upper: OwnedFd,
    pub opaque: bool,
    pub children: Vec<Child>,
    lower: Option<OwnedFd>,
}

/// Writes the list of changes as the contract has it: a letter, an absolute path, a NUL.
pub(in crate::container) fn list(
    upper: OwnedFd,
    lower: OwnedFd,
    out: impl Write,
) -> Result<(), ArchiveError> {
    let mut out = BufWriter::new(out);
    walk(upper, lower, &mut |path, _, child, below| {
        let letter = match child.kind {
            Kind::Added => b'A',
            Kind::Deleted => b'D',
            Kind::Changed if below.is_some_and(|below| !is_changed(child, below)) => return Ok(()),
            Kind::Changed => b'C',
        };
        out.write_all(&[letter, b'/'])?;
        out.write_all(path.as_os_str().as_bytes())?;
        out.write_all(&[0])
    })
    .and_then(|()| out.flush())
    .map_err(ArchiveError::at(Path::new("/")))
}

/// Whether a directory that is on both sides has changed itself. It is on the upper side if anything below it
/// has changed, too.
fn is_changed(child: &Child, below: &Directory) -> bool {
    let same = |a: &Entry, b: &Entry| {
        let key = |entry: &Entry| (entry.stat.st_mode, entry.stat.st_uid, entry.stat.st_gid);
        key(a) == key(b)
    };
    let counts = |child: &Child| {
        child.kind != Kind::Changed && !is_mount_point(&below.path.join(&child.entry.name), child)
    };
    let listed = below.children.iter().any(counts);
    listed || !child.lower.as_ref().is_some_and(|lower| same(&child.entry, lower))
}

/// Calls `visit` for all that differs, a directory before what it holds: with the path, the directory on the
/// upper side it is in, and, should it be a directory itself, that.
pub(super) fn walk(
    upper: OwnedFd,
    lower: OwnedFd,
    visit: &mut impl FnMut(&Path, &OwnedFd, &Child, Option<&Directory>) -> io::Result<()>,
) -> io::Result<()> {
    let root = Directory::read(PathBuf::new(), upper, Some(lower))?;
    walk_directory(&root, visit, 0)
}

fn walk_directory(
    directory: &Directory,
    visit: &mut impl FnMut(&Path, &OwnedFd, &Child, Option<&Directory>) -> io::Result<()>,
    depth: usize,
) -> io::Result<()> {
    tree::check_depth(depth)?;
    for child in &directory.children {
        let path = directory.path.join(&child.entry.name);
        if child.kind == Kind::Deleted || !child.entry.is_dir() {
            if !is_mount_point(&path, child) {
                visit(&path, &directory.upper, child, None)?;
            }
            continue;
        }
        let below = match directory.open(child) {
            // Gone meanwhile, or replaced.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                continue;
            }
            result => result?,
        };
        if child.kind == Kind::Added && below.holds_mount_points_alone() {
            continue;
        }
        visit(&path, &directory.upper, child, Some(&below))?;
        walk_directory(&below, visit, depth + 1)?;
    }
    Ok(())
}

impl Directory {
    fn read(path: PathBuf, upper: OwnedFd, lower: Option<OwnedFd>) -> io::Result<Self> {
        let opaque = tree::xattr(&upper, OPAQUE)?.as_deref() == Some(b"y");
        let mut children = Vec::new();
        for entry in tree::list(&upper)? {
            let lower = look_up(lower.as_ref(), &entry.name)?;
            let whiteout = is_whiteout(&entry);
            let kind = match (whiteout, &lower) {
                (true, _) => Kind::Deleted,
                (false, Some(_)) => Kind::Changed,
                (false, None) => Kind::Added,
            };
            children.push(Child { entry, kind, whiteout, lower });
        }
        if let Some(lower) = lower.as_ref().filter(|_| opaque) {
            hide(&mut children, lower)?;
        }
        Ok(Self { path, upper, opaque, children, lower })
    }

    fn open(&self, child: &Child) -> io::Result<Self> {
        let upper = tree::open_dir(&self.upper, &child.entry.name)?;
        let lower = match (&self.lower, &child.lower) {
            (Some(lower), Some(entry)) if entry.is_dir() => Some(tree::open_dir(lower, &entry.name)?),
            _ => None,
        };
        Self::read(self.path.join(&child.entry.name), upper, lower)
    }

    /// Whether there is nothing here that the container made itself.
    fn holds_mount_points_alone(&self) -> bool {
        if self.children.is_empty() {
            return MOUNT_POINTS.iter().any(|point| self.path == Path::new(point));
        }
        let is_mount_point = |child: &Child| is_mount_point(&self.path.join(&child.entry.name), child);
        self.children.iter().all(is_mount_point)
    }
}

/// Adds what of the image's an opaque directory hides.
fn hide(children: &mut Vec<Child>, lower: &OwnedFd) -> io::Result<()> {
    let shown = children.len();
    for entry in tree::list(lower)? {
        let (upper, _) = children.split_at(shown.min(children.len()));
        if upper.binary_search_by(|child| child.entry.name.cmp(&entry.name)).is_err() {
            children.push(Child { entry, kind: Kind::Deleted, whiteout: false, lower: None });
        }
    }
    children.sort_by(|a, b| a.entry.name.cmp(&b.entry.name));
    Ok(())
}

fn is_mount_point(path: &Path, child: &Child) -> bool {
    child.kind == Kind::Added
        && child.entry.kind() == FileType::RegularFile
        && child.entry.stat.st_size == 0
        && MOUNT_POINTS.iter().any(|point| path == Path::new(point))
}

/// A character device of number 0/0 stands for something deleted.
fn is_whiteout(entry: &Entry) -> bool {
    entry.kind() == FileType::CharacterDevice && entry.stat.st_rdev == 0
}

fn look_up(dir: Option<impl AsFd>, name: &Path) -> io::Result<Option<Entry>> {
    let Some(dir) = dir else { return Ok(None) };
    match Entry::look_up(dir, name) {
        Ok(entry) => Ok(Some(entry).filter(|entry| !is_whiteout(entry))),
        Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// An image and a container's changes of it. A whiteout takes privileges to make, and so is left to the
    /// tests in a guest.
    fn layers() -> (tempfile::TempDir, OwnedFd, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        let (upper, lower) = (dir.path().join("upper"), dir.path().join("lower"));
        for path in ["lower/etc/ssl", "lower/usr/bin", "lower/tmp"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        fs::write(lower.join("etc/passwd"), "").unwrap();
        fs::write(lower.join("usr/bin/sh"), "").unwrap();
        for path in ["upper/etc", "upper/usr/bin", "upper/tmp", "upper/proc", "upper/new/empty"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        fs::write(upper.join("etc/passwd"), "root").unwrap();
        fs::write(upper.join("etc/hosts"), "").unwrap();
        fs::write(upper.join("usr/bin/tool"), "").unwrap();
        fs::set_permissions(upper.join("tmp"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(upper.join("new/file"), "").unwrap();
        let open = |path: &Path| fs::File::open(path).unwrap().into();
        (dir, open(&upper), open(&lower))
    }

    #[test]
    fn changes_are_told_as_docker_does() {
        let (_dir, upper, lower) = layers();
        let mut list = Vec::new();
        super::list(upper, lower, &mut list).unwrap();
        let expected = [
            // Not /proc and /etc/hosts, which are there to be mounted over; /etc, /usr have not changed themselves.
            "C/etc/passwd",
            "A/new",
            "A/new/empty",
            "A/new/file",
            "C/tmp",
            "C/usr/bin",
            "A/usr/bin/tool",
        ];
        let told: Vec<_> = list.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        assert_eq!(told, [&expected[..], &[""]].concat());
    }
}
