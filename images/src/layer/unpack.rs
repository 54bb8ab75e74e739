//! A layer's entries, applied in turn to a file system image.

use std::io::{self, BufRead};

use thiserror::Error;

use super::markers;
use super::paths::{self, PathError};
use super::whiteout::{self, Whiteout};
use crate::erofs::{Attributes, Content, Data, NodeId, Span, Tree, Writer, Xattr, XattrError, device_number};
use crate::limits::Limits;
use crate::tar::{Entry, Kind, TarError, TarReader};

/// The largest file ext4 has room for; a sparse file may claim any size.
const MAX_FILE: u64 = 16 << 40;

/// Why a layer cannot be unpacked.
#[derive(Debug, Error)]
pub enum UnpackError {
    /// The archive is damaged.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// An entry is refused.
    #[error("entry \"{path}\": {cause}")]
    Entry {
        /// Its path in the layer.
        path: String,
        /// The reason.
        #[source]
        cause: EntryError,
    },
    /// It has more entries than the limit.
    #[error("it has more than the limit of {0} files")]
    TooManyEntries(u64),
    /// Its names and attributes take more memory than the limit.
    #[error("its names and attributes take more than the limit of {0} bytes")]
    TooMuchMetadata(u64),
    /// The image cannot be written.
    #[error("writing its image: {0}")]
    Write(#[source] io::Error),
}

/// Why an entry is refused.
#[derive(Debug, Error)]
pub enum EntryError {
    /// Its path has no place in the tree.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Its extended attributes cannot be stored.
    #[error(transparent)]
    Xattr(#[from] XattrError),
    /// A number is larger than Linux knows.
    #[error("its {0} is larger than Linux allows")]
    Number(&'static str),
    /// Its data cannot be stored.
    #[error("{0}")]
    Data(#[source] io::Error),
}

/// Reads a layer's archive into a tree, and its files' data into the image being written.
pub(crate) fn unpack(
    archive: &mut impl BufRead,
    writer: &mut Writer,
    limits: &Limits,
) -> Result<Tree, UnpackError> {
    let mut reader = TarReader::new(archive);
    let mut layer = Unpacking { tree: Tree::new(markers::implied_directory()), metadata: 0 };
    while let Some(entry) = reader.next_entry()? {
        layer.metadata += metadata_size(&entry);
        layer.apply(&entry, &mut reader, writer).map_err(|cause| entry_error(&entry, cause))?;
        if layer.tree.len() as u64 > limits.entries {
            return Err(UnpackError::TooManyEntries(limits.entries));
        }
        if layer.metadata > limits.metadata_bytes {
            return Err(UnpackError::TooMuchMetadata(limits.metadata_bytes));
        }
    }
    Ok(layer.tree)
}

/// Bytes of memory an entry's names and attributes take, whether or not a later entry replaces it.
fn metadata_size(entry: &Entry) -> u64 {
    let xattrs: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len() + 64).sum();
    (entry.path.len() + entry.link.len() + xattrs + 64) as u64
}

/// A failure to write the image is not the entry's fault.
fn entry_error(entry: &Entry, cause: EntryError) -> UnpackError {
    match cause {
        EntryError::Data(error) if error.kind() != io::ErrorKind::UnexpectedEof => UnpackError::Write(error),
        cause => UnpackError::Entry { path: String::from_utf8_lossy(&entry.path).into_owned(), cause },
    }
}

struct Unpacking {
    tree: Tree,
    /// Bytes of memory names, attributes and the like take.
    metadata: u64,
}

impl Unpacking {
    fn apply(
        &mut self,
        entry: &Entry,
        data: &mut TarReader<impl BufRead>,
        writer: &mut Writer,
    ) -> Result<(), EntryError> {
        let names = paths::split(&entry.path)?;
        let Some((name, parents)) = names.split_last() else { return self.apply_root(entry) };
        match whiteout::read(name) {
            Some(Whiteout::Ignored) => return Ok(()),
            Some(Whiteout::Opaque) => {
                let directory = paths::make_directories(&mut self.tree, parents)?;
                markers::make_opaque(&mut self.tree, directory);
                return Ok(());
            }
            Some(Whiteout::Removed(name)) => {
                let directory = paths::make_directories(&mut self.tree, parents)?;
                whiteout::remove(&mut self.tree, directory, name);
                return Ok(());
            }
            None => (),
        }
        let directory = paths::make_directories(&mut self.tree, parents)?;
        if entry.kind == Kind::HardLink {
            let target = paths::find_link_target(&self.tree, &entry.link)?;
            self.tree.link(directory, name, target);
            return Ok(());
        }
        let attributes = attributes(entry)?;
        let content = match entry.kind {
            Kind::Directory => return self.apply_directory(directory, name, attributes),
            Kind::Regular | Kind::HardLink => {
                Content::Regular(self.store(entry, data, writer, &attributes)?)
            }
            Kind::Symlink => Content::Symlink(symlink_target(entry)?),
            Kind::CharDevice => Content::CharDevice(device(entry)?),
            Kind::BlockDevice => Content::BlockDevice(device(entry)?),
            Kind::Fifo => Content::Fifo,
        };
        let node = self.tree.add(attributes, content);
        self.tree.link(directory, name, node);
        Ok(())
    }

    /// An entry for the layer's root, `./` mostly.
    fn apply_root(&mut self, entry: &Entry) -> Result<(), EntryError> {
        if entry.kind != Kind::Directory {
            return Err(PathError::Root.into());
        }
        self.update_directory(Tree::ROOT, attributes(entry)?);
        Ok(())
    }

    /// A directory: a known one only gets its new attributes.
    fn apply_directory(
        &mut self,
        parent: NodeId,
        name: &[u8],
        attributes: Attributes,
    ) -> Result<(), EntryError> {
        let existing = self.tree.names(parent).and_then(|names| names.get(name).copied());
        if let Some(node) = existing.filter(|node| self.tree.names(*node).is_some()) {
            self.update_directory(node, attributes);
            return Ok(());
        }
        let node = self.tree.add(attributes, Content::Directory(Default::default()));
        if existing.is_some_and(|existing| whiteout::is_whiteout(&self.tree.get(existing).content)) {
            markers::make_opaque(&mut self.tree, node);
        }
        self.tree.link(parent, name, node);
        Ok(())
    }

    fn update_directory(&mut self, node: NodeId, attributes: Attributes) {
        let was_opaque = markers::is_opaque(&self.tree.get(node).attributes);
        self.tree.get_mut(node).attributes = attributes;
        if was_opaque {
            markers::make_opaque(&mut self.tree, node);
        }
    }

    fn store(
        &mut self,
        entry: &Entry,
        data: &mut TarReader<impl BufRead>,
        writer: &mut Writer,
        attributes: &Attributes,
    ) -> Result<Data, EntryError> {
        if entry.size > MAX_FILE {
            return Err(EntryError::Number("size"));
        }
        let stored = match &entry.segments {
            None => writer.store(data, entry.size, attributes),
            Some(segments) => {
                let spans: Vec<Span> =
                    segments.iter().map(|part| Span { offset: part.offset, length: part.length }).collect();
                writer.store_sparse(data, entry.size, &spans)
            }
        };
        let stored = stored.map_err(EntryError::Data)?;
        self.metadata += stored.memory();
        Ok(stored)
    }
}

fn attributes(entry: &Entry) -> Result<Attributes, EntryError> {
    let id = |value, what| u32::try_from(value).map_err(|_| EntryError::Number(what));
    let mut xattrs: Vec<Xattr> = Vec::new();
    for (name, value) in entry.xattrs.iter().filter(|(name, _)| !markers::is_reserved(name)) {
        // Names outside Linux's namespaces come from other systems; container engines drop them too.
        if let Some(xattr) = Xattr::new(name, value)? {
            xattrs.retain(|earlier| !earlier.same_name(&xattr));
            xattrs.push(xattr);
        }
    }
    if xattrs.iter().map(Xattr::size).sum::<usize>() > MAX_XATTRS {
        return Err(XattrError::TooMany.into());
    }
    Ok(Attributes {
        mode: entry.mode as u16 & 0o7777,
        uid: id(entry.uid, "user id")?,
        gid: id(entry.gid, "group id")?,
        mtime: entry.mtime,
        xattrs,
    })
}

/// Less than an inode's attributes can take, by the room markers need.
const MAX_XATTRS: usize = 4 * 65_000;

fn symlink_target(entry: &Entry) -> Result<Box<[u8]>, EntryError> {
    // Linux knows no empty links, and none over a page with its NUL.
    match entry.link.len() {
        1..4096 => Ok(entry.link.as_slice().into()),
        _ => Err(PathError::TooLong.into()),
    }
}

fn device(entry: &Entry) -> Result<u32, EntryError> {
    device_number(entry.device.0, entry.device.1).ok_or(EntryError::Number("device number"))
}
