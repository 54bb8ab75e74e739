//! Reads a finished image's tree. Reads only what [`super::Writer`] writes, and takes anything else for damage: no
//! content of a file makes it read outside of the image, for ever, or more than the image holds.

use std::cell::Cell;
use std::io;
use std::path::Path;
use std::rc::Rc;

use super::data::{Data, Tail};
use super::format::{
    BLOCK, BLOCKS_FIELD, COMPACT_INODE, DIRENT, DataLayout, EXTENDED_INODE, INODE_SLOT, MAGIC, MAGIC_FIELD,
    META_BLOCK_FIELD, NULL_BLOCK, Note, ROOT_NID_FIELD,
};
use super::inode::inline_room;
use super::input::{Input, damaged};
use super::tree::{Attributes, Content};
use super::xattr;
use crate::tar::Timestamp;

const TYPE_BITS: u16 = 0o170_000;
const DIRECTORY: u16 = 0o040_000;
/// `FT_*` of a directory.
const DIRECTORY_DIRENT: u8 = 2;

/// An image whose tree is to be read, once.
pub(crate) struct Reader {
    input: Rc<Input>,
    blocks: u32,
    /// Where the metadata area begins, in bytes.
    metadata: u64,
    root: u64,
    note: Note,
    /// Bytes that may yet be read. No byte of an image is in two places of its tree, so that one which asks for more
    /// than it has is damaged: its directories may go in circles.
    unread: Cell<u64>,
}

/// A file in an image.
pub(crate) struct Inode {
    pub(crate) attributes: Attributes,
    /// Names it has in the image.
    pub(crate) links: u32,
    /// The type bits of `st_mode`.
    file_type: u16,
    layout: u16,
    size: u64,
    /// `i_u`: first block, device number or chunk format.
    union: u32,
    /// Where what is behind the inode and its attributes begins.
    end: u64,
}

/// A name in a directory.
pub(crate) struct Entry {
    pub(crate) name: Box<[u8]>,
    /// Of its inode.
    pub(crate) number: u64,
    pub(crate) is_directory: bool,
}

impl Inode {
    pub(crate) fn is_directory(&self) -> bool {
        self.file_type == DIRECTORY
    }
}

impl Reader {
    pub(crate) fn open(path: &Path) -> io::Result<Reader> {
        let input = Rc::new(Input::open(path)?);
        let first = input.read(0, BLOCK)?;
        if u32_at(&first, MAGIC_FIELD)? != MAGIC || input.length() % BLOCK != 0 {
            return Err(damaged());
        }
        Ok(Reader {
            blocks: u32_at(&first, BLOCKS_FIELD)?,
            metadata: u64::from(u32_at(&first, META_BLOCK_FIELD)?) * BLOCK,
            root: u64::from(u16_at(&first, ROOT_NID_FIELD)?),
            note: Note::decode(&first),
            unread: Cell::new(input.length()),
            input,
        })
    }

    /// Blocks the image says it has: its own, and in a merged one those of the files that follow it.
    pub(crate) fn blocks(&self) -> u32 {
        self.blocks
    }

    /// The file's own size, in bytes.
    pub(crate) fn file_size(&self) -> u64 {
        self.input.length()
    }

    pub(crate) fn note(&self) -> Note {
        self.note
    }

    pub(crate) fn root(&self) -> io::Result<Inode> {
        let root = self.inode(self.root)?;
        if root.is_directory() { Ok(root) } else { Err(damaged()) }
    }

    /// The directory an entry stands for.
    pub(crate) fn directory(&self, entry: &Entry) -> io::Result<Inode> {
        let inode = self.inode(entry.number)?;
        if inode.is_directory() { Ok(inode) } else { Err(damaged()) }
    }

    /// The file whose inode has this number.
    pub(crate) fn inode(&self, number: u64) -> io::Result<Inode> {
        let start = number.checked_mul(INODE_SLOT).and_then(|offset| offset.checked_add(self.metadata));
        let start = start.ok_or_else(damaged)?;
        let mut bytes = self.read(start, COMPACT_INODE as u64)?;
        let format = u16_at(&bytes, 0)?;
        let is_extended = format & 1 == 1;
        if is_extended {
            let rest = (EXTENDED_INODE - COMPACT_INODE) as u64;
            bytes.extend(self.read(start + COMPACT_INODE as u64, rest)?);
        }
        let xattr_start = start + bytes.len() as u64;
        let xattr_size = xattr::size_of_count(u16_at(&bytes, 2)?);
        let xattrs = xattr::decode(&self.read(xattr_start, xattr_size)?).ok_or_else(damaged)?;
        let bits = u16_at(&bytes, 4)?;
        let (links, size, uid, gid, mtime) = if is_extended {
            let mtime = Timestamp { seconds: u64_at(&bytes, 32)? as i64, nanoseconds: u32_at(&bytes, 40)? };
            (u32_at(&bytes, 44)?, u64_at(&bytes, 8)?, u32_at(&bytes, 24)?, u32_at(&bytes, 28)?, mtime)
        } else {
            let (uid, gid) = (u16_at(&bytes, 24)?.into(), u16_at(&bytes, 26)?.into());
            (u16_at(&bytes, 6)?.into(), u32_at(&bytes, 8)?.into(), uid, gid, Timestamp::default())
        };
        Ok(Inode {
            attributes: Attributes { mode: bits & !TYPE_BITS, uid, gid, mtime, xattrs },
            links,
            file_type: bits & TYPE_BITS,
            layout: format >> 1,
            size,
            union: u32_at(&bytes, 16)?,
            end: xattr_start + xattr_size,
        })
    }

    /// The names in a directory, but for `.` and `..`.
    pub(crate) fn entries(&self, directory: &Inode) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for block in self.data(directory)?.chunks(BLOCK as usize) {
            decode_block(block, &mut entries)?;
        }
        Ok(entries)
    }

    /// What a file that is no directory holds.
    pub(crate) fn content(&self, inode: &Inode) -> io::Result<Content> {
        match inode.file_type {
            0o010_000 => Ok(Content::Fifo),
            0o020_000 => Ok(Content::CharDevice(inode.union)),
            0o060_000 => Ok(Content::BlockDevice(inode.union)),
            0o100_000 => self.regular(inode).map(Content::Regular),
            0o120_000 => match self.data(inode)? {
                target if (1..4096).contains(&target.len()) => Ok(Content::Symlink(target.into())),
                _ => Err(damaged()),
            },
            _ => Err(damaged()),
        }
    }

    /// Where a regular file's data is: nothing of it is read but the chunk table.
    fn regular(&self, inode: &Inode) -> io::Result<Data> {
        let Inode { size, layout, union, .. } = *inode;
        if layout == DataLayout::ChunkBased as u16 {
            return self.chunks(inode);
        }
        let tail = if layout == DataLayout::FlatInline as u16 { size % BLOCK } else { 0 };
        self.check_blocks(union, (size - tail).div_ceil(BLOCK))?;
        let tail = match tail {
            0 => Tail::none(),
            tail if tail > inline_room(&inode.attributes) => return Err(damaged()),
            tail => Tail::Elsewhere { image: self.input.clone(), offset: inode.end, length: tail as u16 },
        };
        Ok(Data::Flat { size, block: union, tail })
    }

    fn chunks(&self, inode: &Inode) -> io::Result<Data> {
        let size = inode.size;
        let bits = u16::try_from(inode.union).ok().filter(|bits| *bits < 32).ok_or_else(damaged)?;
        let chunk = BLOCK << bits;
        let table = self.read(inode.end, size.div_ceil(chunk).checked_mul(4).ok_or_else(damaged)?)?;
        let mut blocks = Vec::with_capacity(table.len() / 4);
        for (index, entry) in table.chunks_exact(4).enumerate() {
            let block = u32_at(entry, 0)?;
            if block != NULL_BLOCK {
                let rest = size - index as u64 * chunk;
                self.check_blocks(block, rest.min(chunk).div_ceil(BLOCK))?;
            }
            blocks.push(block);
        }
        Ok(Data::Chunked { size, bits, blocks })
    }

    /// All data of a directory or symbolic link.
    fn data(&self, inode: &Inode) -> io::Result<Vec<u8>> {
        let tail = match inode.layout {
            layout if layout == DataLayout::FlatInline as u16 => inode.size % BLOCK,
            layout if layout == DataLayout::FlatPlain as u16 => 0,
            _ => return Err(damaged()),
        };
        let mut data = match inode.size - tail {
            0 => Vec::new(),
            whole => self.read(u64::from(inode.union) * BLOCK, whole)?,
        };
        data.extend(self.read(inode.end, tail)?);
        Ok(data)
    }

    fn check_blocks(&self, first: u32, count: u64) -> io::Result<()> {
        match u64::from(first) + count <= u64::from(self.blocks) {
            true => Ok(()),
            false => Err(damaged()),
        }
    }

    fn read(&self, offset: u64, count: u64) -> io::Result<Vec<u8>> {
        self.unread.set(self.unread.get().checked_sub(count).ok_or_else(damaged)?);
        self.input.read(offset, count)
    }
}

/// Adds a block's entries: their fixed parts come first, and each name ends where the next one begins.
fn decode_block(block: &[u8], entries: &mut Vec<Entry>) -> io::Result<()> {
    let count = usize::from(u16_at(block, 8)?) / DIRENT;
    for index in 0..count {
        let start = usize::from(u16_at(block, index * DIRENT + 8)?);
        let end = match index + 1 < count {
            true => usize::from(u16_at(block, (index + 1) * DIRENT + 8)?),
            false => block.len(),
        };
        let name = block.get(start..end).ok_or_else(damaged)?;
        // The last name of a block that is not full ends in zeros.
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        match name {
            b"." | b".." => (),
            name if name.is_empty() || name.len() > 255 || name.contains(&b'/') => return Err(damaged()),
            name => {
                let number = u64_at(block, index * DIRENT)?;
                let is_directory = bytes_at(block, index * DIRENT + 10)? == [DIRECTORY_DIRENT];
                entries.push(Entry { name: name.into(), number, is_directory });
            }
        }
    }
    Ok(())
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> io::Result<[u8; N]> {
    bytes.get(at..).and_then(|rest| rest.first_chunk().copied()).ok_or_else(damaged)
}

fn u16_at(bytes: &[u8], at: usize) -> io::Result<u16> {
    bytes_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> io::Result<u32> {
    bytes_at(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> io::Result<u64> {
    bytes_at(bytes, at).map(u64::from_le_bytes)
}
