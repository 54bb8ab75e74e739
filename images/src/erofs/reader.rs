//! Looks directories up in a finished image: what a layer above needs to know of those it has files in but no entry
//! for. Reads only what [`super::Writer`] writes, and takes anything else for a damaged file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::format::{
    BLOCK, COMPACT_INODE, DIRENT, DataLayout, EXTENDED_INODE, INODE_SLOT, META_BLOCK_FIELD, ROOT_NID_FIELD,
};
use super::tree::Attributes;
use super::xattr;
use crate::tar::Timestamp;

const TYPE_BITS: u16 = 0o170_000;
const DIRECTORY_BITS: u16 = 0o040_000;

pub(crate) struct Reader {
    file: File,
    length: u64,
    /// Where the metadata area begins, in bytes.
    metadata: u64,
    root: u64,
}

/// What an image has at a path.
pub(crate) enum Lookup {
    Directory(Attributes),
    /// Something else, or a directory that shows nothing from below: layers below do not matter.
    Hidden,
    /// Nothing.
    Absent,
}

struct InodeView {
    attributes: Attributes,
    is_directory: bool,
    layout: u16,
    size: u64,
    block: u32,
    /// Where what is behind the inode and its attributes begins.
    end: u64,
}

impl Reader {
    pub(crate) fn open(path: &Path) -> io::Result<Reader> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut reader = Reader { file, length, metadata: 0, root: 0 };
        let fields = reader.read(0, BLOCK)?;
        reader.metadata = u64::from(u32_at(&fields, META_BLOCK_FIELD)?) * BLOCK;
        reader.root = u64::from(u16_at(&fields, ROOT_NID_FIELD)?);
        Ok(reader)
    }

    /// Looks for a directory. `hides` tells directories through which nothing from below shows.
    pub(crate) fn find(&self, path: &[Box<[u8]>], hides: impl Fn(&Attributes) -> bool) -> io::Result<Lookup> {
        let mut inode = self.inode(self.root)?;
        let mut hidden = false;
        for name in path {
            if !inode.is_directory {
                return Ok(Lookup::Hidden);
            }
            hidden |= hides(&inode.attributes);
            match self.find_name(&inode, name)? {
                Some(number) => inode = self.inode(number)?,
                None if hidden => return Ok(Lookup::Hidden),
                None => return Ok(Lookup::Absent),
            }
        }
        Ok(if inode.is_directory { Lookup::Directory(inode.attributes) } else { Lookup::Hidden })
    }

    fn inode(&self, number: u64) -> io::Result<InodeView> {
        let start = number.checked_mul(INODE_SLOT).and_then(|offset| offset.checked_add(self.metadata));
        let start = start.ok_or_else(damaged)?;
        let format = u16_at(&self.read(start, 2)?, 0)?;
        let is_extended = format & 1 == 1;
        let inode_size = if is_extended { EXTENDED_INODE } else { COMPACT_INODE } as u64;
        let bytes = self.read(start, inode_size)?;
        let xattr_size = xattr::size_of_count(u16_at(&bytes, 2)?);
        let xattrs = xattr::decode(&self.read(start + inode_size, xattr_size)?).ok_or_else(damaged)?;
        let bits = u16_at(&bytes, 4)?;
        let (size, uid, gid, mtime) = if is_extended {
            let mtime = Timestamp { seconds: u64_at(&bytes, 32)? as i64, nanoseconds: u32_at(&bytes, 40)? };
            (u64_at(&bytes, 8)?, u32_at(&bytes, 24)?, u32_at(&bytes, 28)?, mtime)
        } else {
            let (uid, gid) = (u16_at(&bytes, 24)?.into(), u16_at(&bytes, 26)?.into());
            (u32_at(&bytes, 8)?.into(), uid, gid, Timestamp::default())
        };
        Ok(InodeView {
            attributes: Attributes { mode: bits & !TYPE_BITS, uid, gid, mtime, xattrs, implied: false },
            is_directory: bits & TYPE_BITS == DIRECTORY_BITS,
            layout: format >> 1,
            size,
            block: u32_at(&bytes, 16)?,
            end: start + inode_size + xattr_size,
        })
    }

    fn find_name(&self, directory: &InodeView, name: &[u8]) -> io::Result<Option<u64>> {
        let is_inline = directory.layout == DataLayout::FlatInline as u16;
        let whole = if is_inline { directory.size / BLOCK } else { directory.size.div_ceil(BLOCK) };
        for index in 0..whole {
            let block = self.read((u64::from(directory.block) + index) * BLOCK, BLOCK)?;
            let used = BLOCK.min(directory.size - index * BLOCK);
            if let Some(number) = find_in_block(block.get(..used as usize).unwrap_or_default(), name)? {
                return Ok(Some(number));
            }
        }
        match directory.size.saturating_sub(whole * BLOCK) {
            0 => Ok(None),
            tail => find_in_block(&self.read(directory.end, tail)?, name),
        }
    }

    fn read(&self, offset: u64, count: u64) -> io::Result<Vec<u8>> {
        if offset.checked_add(count).is_none_or(|end| end > self.length) {
            return Err(damaged());
        }
        let mut bytes = vec![0; count as usize];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }
}

fn find_in_block(block: &[u8], name: &[u8]) -> io::Result<Option<u64>> {
    let count = usize::from(u16_at(block, 8)?) / DIRENT;
    for index in 0..count {
        let start = usize::from(u16_at(block, index * DIRENT + 8)?);
        let end = match index + 1 < count {
            true => usize::from(u16_at(block, (index + 1) * DIRENT + 8)?),
            false => block.len(),
        };
        let found = block.get(start..end).ok_or_else(damaged)?;
        // The last name of a block that is not full ends in zeros.
        if found.split(|&byte| byte == 0).next() == Some(name) {
            return u64_at(block, index * DIRENT).map(Some);
        }
    }
    Ok(None)
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

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a layer's image is damaged")
}
