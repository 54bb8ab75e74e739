//! Directory trees by descriptor and name: no link is followed, whatever changes meanwhile.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libc::{CGROUP2_SUPER_MAGIC, DEVPTS_SUPER_MAGIC, PROC_SUPER_MAGIC, SYSFS_MAGIC};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::fs::{fgetxattr, flistxattr, fstatfs, openat, statat};
use rustix::io::Errno;

/// How deep a tree may be: each level holds a descriptor, and takes room on the stack.
pub(super) const MAX_DEPTH: usize = 1000;

/// The kernel's own bound of an attribute's value and of a list of names (xattr(7)).
const MAX_XATTR: usize = 64 * 1024;

/// What a directory holds under one name.
pub(super) struct Entry {
    pub name: Box<Path>,
    pub stat: Stat,
}

impl Entry {
    /// What `dir` holds under this name now.
    pub(super) fn look_up(dir: impl AsFd, name: &Path) -> io::Result<Self> {
        let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(Self { name: name.into(), stat })
    }

    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    pub(super) fn is_dir(&self) -> bool {
        self.kind() == FileType::Directory
    }
}

/// What a directory holds, by name.
pub(super) fn list(dir: impl AsFd) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for item in Dir::read_from(&dir)? {
        let item = item?;
        let name = item.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        match Entry::look_up(&dir, Path::new(OsStr::from_bytes(name))) {
            Ok(entry) => entries.push(entry),
            // Gone meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Opens a directory that a directory holds.
pub(super) fn open_dir(dir: impl AsFd, name: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(dir, name, flags, Mode::empty())?)
}

/// Opens a file that a directory holds, for reading. Never waits, whatever took the file's place.
pub(super) fn open_file(dir: impl AsFd, name: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(dir, name, flags, Mode::empty())?)
}

/// The extended attributes for which `wanted` holds; none where the file system has none.
pub(super) fn xattrs(file: impl AsFd, wanted: impl Fn(&str) -> bool) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut names = vec![0; MAX_XATTR];
    let length = match flistxattr(&file, &mut *names) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    for name in names.get(..length).unwrap_or_default().split(|byte| *byte == 0) {
        let Some(name) = str::from_utf8(name).ok().filter(|name| wanted(name)) else { continue };
        if let Some(value) = xattr(&file, name)? {
            found.push((name.to_owned(), value));
        }
    }
    Ok(found)
}

/// One extended attribute, if the file has it.
pub(super) fn xattr(file: impl AsFd, name: &str) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; MAX_XATTR];
    match fgetxattr(file, name, &mut *value) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether the directory is the kernel's own words rather than files (statfs(2)): proc, sysfs, cgroups, terminals.
pub(super) fn is_of_kernel(dir: impl AsFd) -> io::Result<bool> {
    let kind = fstatfs(dir)?.f_type;
    Ok([PROC_SUPER_MAGIC, SYSFS_MAGIC, CGROUP2_SUPER_MAGIC, DEVPTS_SUPER_MAGIC].contains(&kind))
}

/// Fails for a tree that goes deeper than anyone means it to.
pub(super) fn check_depth(depth: usize) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "directories are nested too deep"));
    }
    Ok(())
}
