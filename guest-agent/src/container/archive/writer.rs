//! Writes what a directory holds into a tar archive: ustar, with pax records for what does not fit (POSIX.1-2017,
//! pax Interchange Format) and for extended attributes (SCHILY.xattr, as all container engines have them).

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat, fstat, major, minor, readlinkat};
use tar::{Builder, EntryType, Header};

use super::tree::{self, Entry};

/// Bytes handed to the stream at one time.
const BUFFER_LEN: usize = 64 * 1024;

/// The permission bits of a mode, and nothing of its type.
const PERMISSIONS: u32 = 0o7777;

/// An archive being written.
pub(super) struct Writer<W: Write> {
    builder: Builder<BufWriter<W>>,
    /// Where files with several names stand in the archive, by device and inode.
    written: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(out: W) -> Self {
        let builder = Builder::new(BufWriter::with_capacity(BUFFER_LEN, out));
        Self { builder, written: HashMap::new() }
    }

    /// Appends an entry of `dir` under this path, without what it holds should it be a directory. Sockets are
    /// left out, as is what has gone meanwhile.
    pub(super) fn append(&mut self, path: &Path, dir: impl AsFd, entry: &Entry) -> io::Result<()> {
        match self.try_append(path, dir, entry) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn try_append(&mut self, path: &Path, dir: impl AsFd, entry: &Entry) -> io::Result<()> {
        let stat = &entry.stat;
        if !entry.is_dir()
            && let Some(first) = self.written.get(&(stat.st_dev, stat.st_ino)).cloned()
        {
            return self.append_empty(path, header(EntryType::Link, stat), Some(&first));
        }
        match entry.kind() {
            FileType::Directory => return self.append_dir(path, tree::open_dir(dir, &entry.name)?),
            FileType::RegularFile => self.append_file(path, tree::open_file(dir, &entry.name)?.into())?,
            FileType::Symlink => {
                let target = readlinkat(dir, &*entry.name, Vec::new())?;
                let target = Path::new(std::ffi::OsStr::from_bytes(target.to_bytes()));
                self.append_empty(path, header(EntryType::Symlink, stat), Some(target))?;
            }
            FileType::CharacterDevice => self.append_device(path, EntryType::Char, stat)?,
            FileType::BlockDevice => self.append_device(path, EntryType::Block, stat)?,
            FileType::Fifo => self.append_empty(path, header(EntryType::Fifo, stat), None)?,
            _ => return Ok(()),
        }
        if stat.st_nlink > 1 {
            self.written.insert((stat.st_dev, stat.st_ino), path.to_owned());
        }
        Ok(())
    }

    /// Appends an open directory itself.
    pub(super) fn append_dir(&mut self, path: &Path, dir: impl AsFd) -> io::Result<()> {
        let stat = fstat(&dir)?;
        let mut name = path.as_os_str().to_owned();
        name.push("/");
        let records = xattr_records(&dir)?;
        self.append_entry(Path::new(&name), header(EntryType::Directory, &stat), None, records, io::empty())
    }

    /// Appends an empty file that exists only in the archive, such as a whiteout.
    pub(super) fn append_marker(&mut self, path: &Path) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        self.append_empty(path, header, None)
    }

    /// Ends the archive; without this, a reader sees that it is not whole.
    pub(super) fn finish(self) -> io::Result<()> {
        self.builder.into_inner()?.flush()
    }

    fn append_file(&mut self, path: &Path, file: File) -> io::Result<()> {
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            // Something else took its place.
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut header = header(EntryType::Regular, &stat);
        let size = stat.st_size.cast_unsigned();
        header.set_size(size);
        let records = xattr_records(&file)?;
        self.append_entry(path, header, None, records, Exactly { file, left: size })
    }

    fn append_device(&mut self, path: &Path, kind: EntryType, stat: &Stat) -> io::Result<()> {
        let mut header = header(kind, stat);
        header.set_device_major(major(stat.st_rdev))?;
        header.set_device_minor(minor(stat.st_rdev))?;
        self.append_empty(path, header, None)
    }

    fn append_empty(&mut self, path: &Path, header: Header, link: Option<&Path>) -> io::Result<()> {
        self.append_entry(path, header, link, Vec::new(), io::empty())
    }

    fn append_entry(
        &mut self,
        path: &Path,
        mut header: Header,
        link: Option<&Path>,
        mut records: Vec<(String, Vec<u8>)>,
        data: impl Read,
    ) -> io::Result<()> {
        let name = path.as_os_str().as_bytes();
        let link = link.map_or(&[][..], |link| link.as_os_str().as_bytes());
        let fields = header.as_old_mut();
        if !fit(&mut fields.name, name) {
            records.push(("path".to_owned(), name.to_owned()));
        }
        if !fit(&mut fields.linkname, link) {
            records.push(("linkpath".to_owned(), link.to_owned()));
        }
        header.set_cksum();
        self.builder.append_pax_extensions(records.iter().map(|(key, value)| (&**key, &**value)))?;
        self.builder.append(&header, data)
    }
}

fn header(kind: EntryType, stat: &Stat) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(stat.st_mode & PERMISSIONS);
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header.set_size(0);
    header
}

/// Puts as much of the bytes into the field as it holds; whether that is all.
fn fit(field: &mut [u8], bytes: &[u8]) -> bool {
    for (place, byte) in field.iter_mut().zip(bytes) {
        *place = *byte;
    }
    bytes.len() <= field.len()
}

/// What of a file's attributes belongs into an archive: those of its user, and capabilities(7).
pub(super) fn is_archived(xattr: &str) -> bool {
    xattr == "security.capability" || (xattr.starts_with("user.") && !xattr.starts_with("user.overlay."))
}

fn xattr_records(file: impl AsFd) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut found = tree::xattrs(file, is_archived)?;
    for (name, _) in &mut found {
        name.insert_str(0, XATTR_RECORD);
    }
    Ok(found)
}

/// What the key of a pax record for an extended attribute begins with.
pub(super) const XATTR_RECORD: &str = "SCHILY.xattr.";

/// A file in the size it had when its header was written: cut, or filled up with zeros, should it have changed.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..wanted).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        let read = match self.file.read(buffer)? {
            0 => {
                buffer.fill(0);
                wanted
            }
            read => read,
        };
        self.left -= read as u64;
        Ok(read)
    }
}
