//! Extracts archives into a container, whatever they name: all of it stays inside its root.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chownat, fchmod,
    fchown, fsetxattr, futimens, linkat, makedev, mkdirat, mknodat, openat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use tar::{Archive, EntryType};

use super::ArchiveError;
use super::path::{Target, clean};
use super::read::open_directory;
use super::tree::{self, Entry};
use super::writer::{XATTR_RECORD, is_archived};
use crate::container::in_root::InRoot;

const BUFFER_LEN: usize = 64 * 1024;

#[derive(Clone, Copy)]
pub(in crate::container) struct Options {
    /// Refuse to replace a directory by something else, or the other way round.
    pub keep_kind: bool,
    /// Take owners from the archive; otherwise everything is root's.
    pub keep_owner: bool,
}

/// Extracts the archive into the directory at the path, which must be there. Fails for an archive without its
/// end; what came before is extracted nonetheless.
pub(in crate::container) fn extract(
    root: &InRoot,
    directory: &str,
    source: impl Read,
    options: Options,
) -> Result<(), ArchiveError> {
    let target = Target::new(directory);
    open_directory(root, &target.path)?;
    let mut extraction =
        Extraction { root, directory: target.path, options, parent: None, directories: Vec::new() };
    let mut archive = Archive::new(Source { source, ended: false });
    for entry in archive.entries().map_err(ArchiveError::Tar)? {
        extraction.entry(entry.map_err(ArchiveError::Tar)?)?;
    }
    extraction.finish()?;
    let mut source = archive.into_inner();
    if source.ended {
        return Err(ArchiveError::Truncated);
    }
    // What fills up the archive's last record.
    io::copy(&mut source, &mut io::sink()).map_err(ArchiveError::Tar)?;
    Ok(())
}

/// Notes whether the source has ended: two blocks of zeros end an archive before that.
struct Source<R> {
    source: R,
    ended: bool,
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.ended |= read == 0 && !buffer.is_empty();
        Ok(read)
    }
}

struct Extraction<'a> {
    root: &'a InRoot,
    directory: PathBuf,
    options: Options,
    /// The last entry's parent directory: most have the same as the one before.
    parent: Option<(PathBuf, OwnedFd)>,
    /// Directories whose time of change is set when nothing more is put into them.
    directories: Vec<(PathBuf, Timestamps)>,
}

/// What an entry's header says of the file to be made.
struct Attributes {
    kind: EntryType,
    mode: Mode,
    owner: Uid,
    group: Gid,
    times: Timestamps,
    xattrs: Vec<(String, Vec<u8>)>,
    link: PathBuf,
    device: (u32, u32),
}

impl Extraction<'_> {
    fn entry(&mut self, mut entry: tar::Entry<'_, impl Read>) -> Result<(), ArchiveError> {
        let kind = entry.header().entry_type();
        if !is_extracted(kind) {
            return Ok(());
        }
        let named = PathBuf::from(OsStr::from_bytes(&entry.path_bytes()));
        let path = clean(&named).ok_or(ArchiveError::LeadsOut(named))?;
        let Some((parent, name)) = path.parent().zip(path.file_name()) else {
            // The directory itself.
            return Ok(());
        };
        let attributes = self.attributes(&mut entry).map_err(ArchiveError::Tar)?;
        let place = self.directory.join(&path);
        let parent = self.open_parent(parent)?;
        let name = Path::new(name);
        self.make_room(&parent, name, kind == EntryType::Directory, &place)?;
        match kind {
            EntryType::Directory => {
                make_directory(&parent, name, &attributes).map_err(ArchiveError::at(&place))?;
                self.directories.push((place.clone(), attributes.times.clone()));
            }
            EntryType::Link => self.link(&parent, name, &attributes, &place)?,
            EntryType::Symlink | EntryType::Fifo | EntryType::Char | EntryType::Block => {
                make_special(&parent, name, &attributes).map_err(ArchiveError::at(&place))?;
            }
            _ => {
                let file = create(&parent, name).map_err(ArchiveError::at(&place))?;
                copy(&mut entry, &file, &place)?;
                apply(&file, &attributes).map_err(ArchiveError::at(&place))?;
            }
        }
        self.parent = Some((place.parent().unwrap_or(&place).to_owned(), parent));
        Ok(())
    }

    fn attributes(&self, entry: &mut tar::Entry<'_, impl Read>) -> io::Result<Attributes> {
        let link = entry.link_name_bytes().map(|link| PathBuf::from(OsStr::from_bytes(&link)));
        let mut xattrs = Vec::new();
        for record in entry.pax_extensions()?.into_iter().flatten().flatten() {
            let name = record.key().ok().and_then(|key| key.strip_prefix(XATTR_RECORD));
            if let Some(name) = name.filter(|name| is_archived(name)) {
                xattrs.push((name.to_owned(), record.value_bytes().to_owned()));
            }
        }
        let header = entry.header();
        let id = |id: io::Result<u64>| -> io::Result<u32> {
            if !self.options.keep_owner {
                return Ok(0);
            }
            u32::try_from(id?)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "an owner beyond 32 bits"))
        };
        let device = match header.entry_type() {
            EntryType::Char | EntryType::Block => {
                (header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0))
            }
            _ => (0, 0),
        };
        let modified = Timespec { tv_sec: header.mtime()?.try_into().unwrap_or(i64::MAX), tv_nsec: 0 };
        let unchanged = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        Ok(Attributes {
            kind: header.entry_type(),
            mode: Mode::from_raw_mode(header.mode()?),
            owner: Uid::from_raw(id(header.uid())?),
            group: Gid::from_raw(id(header.gid())?),
            times: Timestamps { last_access: unchanged, last_modification: modified },
            xattrs,
            link: link.unwrap_or_default(),
            device,
        })
    }

    /// The directory an entry goes to, made if it is missing.
    fn open_parent(&mut self, relative: &Path) -> Result<OwnedFd, ArchiveError> {
        let path = self.directory.join(relative);
        if let Some((last, opened)) = self.parent.take()
            && last == path
        {
            return Ok(opened);
        }
        self.root.create_dir_all(&path).map_err(ArchiveError::at(&path))?;
        open_directory(self.root, &path)
    }

    /// Takes away what has the entry's name, unless both are directories.
    fn make_room(
        &self,
        parent: &OwnedFd,
        name: &Path,
        directory: bool,
        place: &Path,
    ) -> Result<(), ArchiveError> {
        let existing = match Entry::look_up(parent, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => result.map_err(ArchiveError::at(place))?,
        };
        match (existing.is_dir(), directory) {
            (true, true) => return Ok(()),
            (true, false) if self.options.keep_kind => {
                return Err(ArchiveError::OverDirectory(place.to_owned()));
            }
            (false, true) if self.options.keep_kind => {
                return Err(ArchiveError::OverNonDirectory(place.to_owned()));
            }
            _ => {}
        }
        remove(parent, &existing, 0).map_err(ArchiveError::at(place))
    }

    /// Makes a further name of a file the archive named before.
    fn link(
        &self,
        parent: &OwnedFd,
        name: &Path,
        attributes: &Attributes,
        place: &Path,
    ) -> Result<(), ArchiveError> {
        let target =
            clean(&attributes.link).ok_or_else(|| ArchiveError::LeadsOut(attributes.link.clone()))?;
        let Some((target_parent, target_name)) = target.parent().zip(target.file_name()) else {
            return Err(ArchiveError::LeadsOut(attributes.link.clone()));
        };
        let target_parent = open_directory(self.root, &self.directory.join(target_parent))?;
        linkat(&target_parent, Path::new(target_name), parent, name, AtFlags::empty())
            .map_err(|error| ArchiveError::at(place)(error.into()))
    }

    fn finish(&mut self) -> Result<(), ArchiveError> {
        self.parent = None;
        for (path, times) in self.directories.drain(..).rev() {
            // A directory that a later entry replaced has no time to be set.
            if let Ok(opened) = open_directory(self.root, &path) {
                futimens(&opened, &times).map_err(|error| ArchiveError::at(&path)(error.into()))?;
            }
        }
        Ok(())
    }
}

fn is_extracted(kind: EntryType) -> bool {
    matches!(
        kind,
        EntryType::Regular
            | EntryType::Continuous
            | EntryType::GNUSparse
            | EntryType::Directory
            | EntryType::Symlink
            | EntryType::Link
            | EntryType::Fifo
            | EntryType::Char
            | EntryType::Block
    )
}

fn make_directory(parent: &OwnedFd, name: &Path, attributes: &Attributes) -> io::Result<()> {
    match mkdirat(parent, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    apply_all(tree::open_dir(parent, name)?, attributes)
}

fn create(parent: &OwnedFd, name: &Path) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// Makes what has no content.
fn make_special(parent: &OwnedFd, name: &Path, attributes: &Attributes) -> io::Result<()> {
    let (major, minor) = attributes.device;
    let (kind, device) = match attributes.kind {
        EntryType::Symlink => {
            symlinkat(&attributes.link, parent, name)?;
            (FileType::Symlink, 0)
        }
        EntryType::Fifo => (FileType::Fifo, 0),
        EntryType::Block => (FileType::BlockDevice, makedev(major, minor)),
        _ => (FileType::CharacterDevice, makedev(major, minor)),
    };
    if kind != FileType::Symlink {
        mknodat(parent, name, kind, attributes.mode, device)?;
    }
    let (owner, group) = (Some(attributes.owner), Some(attributes.group));
    chownat(parent, name, owner, group, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(utimensat(parent, name, &attributes.times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Copies an entry's bytes: what cannot be read is the archive's fault, what cannot be written the container's.
fn copy(entry: &mut impl Read, mut file: &File, place: &Path) -> Result<(), ArchiveError> {
    let mut buffer = vec![0; BUFFER_LEN];
    loop {
        let read = entry.read(&mut buffer).map_err(ArchiveError::Tar)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        file.write_all(bytes).map_err(ArchiveError::at(place))?;
    }
}

fn apply(file: &File, attributes: &Attributes) -> io::Result<()> {
    apply_all(file, attributes)?;
    Ok(futimens(file, &attributes.times)?)
}

/// Everything but the times. A change of owner takes set-user-ID and capabilities away: it comes first.
fn apply_all(file: impl AsFd, attributes: &Attributes) -> io::Result<()> {
    fchown(&file, Some(attributes.owner), Some(attributes.group))?;
    fchmod(&file, attributes.mode)?;
    for (name, value) in &attributes.xattrs {
        match fsetxattr(&file, &**name, value, XattrFlags::empty()) {
            // A tmpfs, say, without them.
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Removes what a directory holds under a name, and everything below.
fn remove(parent: impl AsFd, entry: &Entry, depth: usize) -> io::Result<()> {
    if !entry.is_dir() {
        return Ok(unlinkat(parent, &*entry.name, AtFlags::empty())?);
    }
    tree::check_depth(depth)?;
    let dir = tree::open_dir(&parent, &entry.name)?;
    for below in tree::list(&dir)? {
        remove(&dir, &below, depth + 1)?;
    }
    Ok(unlinkat(parent, &*entry.name, AtFlags::REMOVEDIR)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use tar::{Builder, Header};

    use super::*;
    use crate::container::archive::{write_all, write_path};

    struct Root {
        outside: tempfile::TempDir,
    }

    impl Root {
        fn new() -> Self {
            let root = Self { outside: tempfile::tempdir().unwrap() };
            fs::create_dir_all(root.path().join("dest")).unwrap();
            root
        }

        fn path(&self) -> PathBuf {
            self.outside.path().join("root")
        }

        fn extract(&self, archive: &[u8], keep_kind: bool) -> Result<(), ArchiveError> {
            // The owner of what this test makes, who is not root everywhere, is in the archives.
            let options = Options { keep_kind, keep_owner: true };
            extract(&InRoot::open(&self.path()).unwrap(), "/dest", archive, options)
        }
    }

    struct Tar(Builder<Vec<u8>>);

    impl Tar {
        fn new() -> Self {
            Self(Builder::new(Vec::new()))
        }

        /// The name goes in as it is, however bad.
        fn add(mut self, kind: EntryType, name: &str, link: &str, content: &[u8]) -> Self {
            let mut header = Header::new_ustar();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_entry_type(kind);
            header.set_mode(0o640);
            header.set_uid(rustix::process::geteuid().as_raw().into());
            header.set_gid(rustix::process::getegid().as_raw().into());
            header.set_mtime(1_000_000_000);
            header.set_size(content.len() as u64);
            header.set_cksum();
            self.0.append(&header, content).unwrap();
            self
        }

        fn bytes(self) -> Vec<u8> {
            self.0.into_inner().unwrap()
        }
    }

    #[test]
    fn a_file_arrives_with_what_its_header_says() {
        let root = Root::new();
        let tar = Tar::new().add(EntryType::Regular, "new/dir/file", "", b"content").bytes();
        root.extract(&tar, true).unwrap();
        let file = root.path().join("dest/new/dir/file");
        assert_eq!(fs::read(&file).unwrap(), b"content");
        let metadata = fs::metadata(&file).unwrap();
        assert_eq!((metadata.permissions().mode() & 0o7777, metadata.mtime()), (0o640, 1_000_000_000));
    }

    #[test]
    fn names_and_links_that_lead_out_are_refused_or_stay_inside() {
        let root = Root::new();
        fs::write(root.outside.path().join("secret"), "outside").unwrap();
        for (kind, name, link) in [
            (EntryType::Regular, "../../escaped", ""),
            (EntryType::Regular, "a/../../../escaped", ""),
            (EntryType::Link, "stolen", "../../secret"),
        ] {
            let tar = Tar::new().add(kind, name, link, b"").bytes();
            assert!(matches!(root.extract(&tar, false), Err(ArchiveError::LeadsOut(_))), "{name}");
        }
        let through_links = Tar::new()
            .add(EntryType::Symlink, "up", "../../..", b"")
            .add(EntryType::Regular, "up/escaped", "", b"")
            .add(EntryType::Symlink, "abs", "/", b"")
            .add(EntryType::Regular, "abs/inside", "", b"")
            .add(EntryType::Regular, "/absolute", "", b"")
            .bytes();
        root.extract(&through_links, false).unwrap();
        assert!(!root.outside.path().join("escaped").exists());
        assert!(root.path().join("escaped").exists());
        assert!(root.path().join("inside").exists());
        assert!(root.path().join("dest/absolute").exists());
    }

    #[test]
    fn a_link_in_the_place_of_a_file_is_replaced_and_not_followed() {
        let root = Root::new();
        let secret = root.outside.path().join("secret");
        fs::write(&secret, "outside").unwrap();
        symlink(&secret, root.path().join("dest/file")).unwrap();
        root.extract(&Tar::new().add(EntryType::Regular, "file", "", b"new").bytes(), true).unwrap();
        assert_eq!(fs::read(&secret).unwrap(), b"outside");
        assert_eq!(fs::read(root.path().join("dest/file")).unwrap(), b"new");
    }

    #[test]
    fn directories_and_files_replace_each_other_only_when_they_may() {
        let root = Root::new();
        fs::create_dir_all(root.path().join("dest/dir/below")).unwrap();
        fs::write(root.path().join("dest/file"), "").unwrap();
        let file = Tar::new().add(EntryType::Regular, "dir", "", b"now a file").bytes();
        let dir = Tar::new().add(EntryType::Directory, "file", "", b"").bytes();
        assert!(matches!(root.extract(&file, true), Err(ArchiveError::OverDirectory(_))));
        assert!(matches!(root.extract(&dir, true), Err(ArchiveError::OverNonDirectory(_))));
        root.extract(&file, false).unwrap();
        root.extract(&dir, false).unwrap();
        assert!(root.path().join("dest/dir").is_file());
        assert!(root.path().join("dest/file").is_dir());
    }

    #[test]
    fn an_archive_without_its_end_is_told_apart_from_a_whole_one() {
        let root = Root::new();
        let whole = Tar::new().add(EntryType::Regular, "file", "", b"content").bytes();
        assert!(matches!(root.extract(&whole[..1024], true), Err(ArchiveError::Truncated)));
        assert!(matches!(root.extract(&whole[..700], true), Err(ArchiveError::Tar(_))));
        assert!(matches!(root.extract(&[], true), Err(ArchiveError::Truncated)));
        root.extract(&whole, true).unwrap();
        let open = InRoot::open(&root.path()).unwrap();
        let options = Options { keep_kind: true, keep_owner: false };
        assert!(matches!(extract(&open, "/none", &*whole, options), Err(ArchiveError::NotFound(_))));
        assert!(matches!(
            extract(&open, "/dest/file", &*whole, options),
            Err(ArchiveError::NotADirectory(_))
        ));
    }

    #[test]
    fn what_is_written_comes_back_the_same() {
        let root = Root::new();
        let tree = root.path().join("tree");
        let long = "n".repeat(120);
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a").join(&long), "long").unwrap();
        fs::write(tree.join("a/b/file"), vec![7; 100_000]).unwrap();
        fs::hard_link(tree.join("a/b/file"), tree.join("a/link")).unwrap();
        symlink("l".repeat(150), tree.join("a/symlink")).unwrap();
        fs::set_permissions(tree.join("a/b/file"), fs::Permissions::from_mode(0o4751)).unwrap();
        let mut archive = Vec::new();
        write_path(&InRoot::open(&root.path()).unwrap(), "/tree/.", &mut archive).unwrap();
        root.extract(&archive, true).unwrap();
        let copy = root.path().join("dest");
        assert_eq!(fs::read(copy.join("a").join(&long)).unwrap(), b"long");
        assert_eq!(fs::read(copy.join("a/b/file")).unwrap(), vec![7; 100_000]);
        assert_eq!(fs::metadata(copy.join("a/b/file")).unwrap().permissions().mode() & 0o7777, 0o4751);
        let inode = |name: &str| fs::metadata(copy.join(name)).unwrap().ino();
        assert_eq!(inode("a/b/file"), inode("a/link"));
        assert_eq!(fs::read_link(copy.join("a/symlink")).unwrap(), Path::new(&"l".repeat(150)));
    }

    #[test]
    fn an_export_names_everything_from_the_root() {
        let root = Root::new();
        fs::write(root.path().join("dest/file"), "").unwrap();
        let mut archive = Vec::new();
        write_all(&InRoot::open(&root.path()).unwrap(), &mut archive).unwrap();
        let mut archive = Archive::new(&*archive);
        let names: Vec<_> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
        assert_eq!(names, [Path::new("dest/"), Path::new("dest/file")]);
    }
}
