//! How a file's inode is laid out: its form, and what stands behind it.

use super::data::Data;
use super::format::{BLOCK, COMPACT_INODE, DataLayout, EXTENDED_INODE, Inode};
use super::tree::{Attributes, Content, Node};
use super::xattr::{self, XattrError};

/// Room for data behind an inode with these attributes, in bytes: inline data lies in its inode's block.
pub(crate) fn inline_room(attributes: &Attributes) -> u64 {
    BLOCK.saturating_sub((EXTENDED_INODE + xattr::body_size(&attributes.xattrs)) as u64)
}

/// How many blocks of its own the data of a directory or link takes: its last part goes behind the inode if it fits.
pub(crate) fn whole_blocks(attributes: &Attributes, size: u64) -> u32 {
    let tail_fits = size % BLOCK <= inline_room(attributes);
    // Directories are bounded by the entries a layer may have: far from 2^32 blocks.
    (if tail_fits { size / BLOCK } else { size.div_ceil(BLOCK) }) as u32
}

/// An inode about to be placed.
pub(crate) struct InodePlan {
    fields: Inode,
    xattr_size: usize,
    /// Bytes of data, or of chunk table, behind inode and attributes.
    tail_size: usize,
}

impl InodePlan {
    /// Plans the inode of a file. `size` is that of its data; a directory's or link's begins at `block`, and takes
    /// `whole_blocks` there: the rest comes behind the inode.
    pub(crate) fn new(
        node: &Node,
        links: u32,
        size: u64,
        block: u32,
        whole_blocks: u32,
    ) -> Result<InodePlan, XattrError> {
        let Attributes { mode, uid, gid, mtime, xattrs } = &node.attributes;
        let (layout, union, tail_size) = match &node.content {
            Content::Directory(_) | Content::Symlink(_) => {
                match size.saturating_sub(u64::from(whole_blocks) * BLOCK) {
                    0 => (DataLayout::FlatPlain, block, 0),
                    tail => (DataLayout::FlatInline, block, tail as usize),
                }
            }
            Content::Regular(Data::Flat { block, tail, .. }) => match tail.len() {
                0 => (DataLayout::FlatPlain, *block, 0),
                tail => (DataLayout::FlatInline, *block, tail),
            },
            Content::Regular(Data::Chunked { bits, blocks, .. }) => {
                (DataLayout::ChunkBased, u32::from(*bits), 4 * blocks.len())
            }
            Content::CharDevice(number) | Content::BlockDevice(number) => (DataLayout::FlatPlain, *number, 0),
            Content::Fifo => (DataLayout::FlatPlain, 0, 0),
        };
        let fields = Inode {
            layout,
            xattr_count: xattr::count(xattrs)?,
            mode: node.content.type_bits() | mode & 0o7777,
            links,
            size,
            union,
            ino: 0,
            uid: *uid,
            gid: *gid,
            seconds: mtime.seconds,
            nanoseconds: mtime.nanoseconds,
        };
        Ok(InodePlan { fields, xattr_size: xattr::body_size(xattrs), tail_size })
    }

    /// Where it can be placed, at or after an offset of the metadata area.
    ///
    /// What fits a block does not cross into the next: inline data must not, and reading an inode then takes one block.
    pub(crate) fn place(&self, offset: u64) -> u64 {
        let whole = match self.fields.layout {
            DataLayout::FlatInline => self.head_size() + self.tail_size,
            DataLayout::FlatPlain | DataLayout::ChunkBased => self.head_size(),
        };
        match offset % BLOCK + whole as u64 > BLOCK {
            true => offset.next_multiple_of(BLOCK),
            false => offset,
        }
    }

    /// Bytes it takes with all that is behind it.
    pub(crate) fn size(&self) -> u64 {
        (self.head_size() + self.tail_size) as u64
    }

    pub(crate) fn is_chunked(&self) -> bool {
        self.fields.layout == DataLayout::ChunkBased
    }

    /// The inode and its attributes.
    pub(crate) fn encode(mut self, node: &Node, ino: u32) -> Vec<u8> {
        self.fields.ino = ino;
        let mut bytes = self.fields.encode();
        bytes.extend_from_slice(&xattr::encode(&node.attributes.xattrs));
        bytes
    }

    fn head_size(&self) -> usize {
        self.xattr_size + if self.fields.is_compact() { COMPACT_INODE } else { EXTENDED_INODE }
    }
}
