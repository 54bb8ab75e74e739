//! Writes an image: file data as it comes, the tree at the end.

use std::fs::File;
use std::io::{self, BufRead};

use super::blocks::BlockWriter;
use super::data::{Data, DataWriter, Span};
use super::directory::DirectoryData;
use super::format::{INODE_SLOT, Note, Superblock};
use super::inode::inline_room;
use super::placement::{Placement, ROOT_NID};
use super::tree::{Attributes, Content, Tree};

pub(crate) struct Writer {
    blocks: BlockWriter,
    data: DataWriter,
}

impl Writer {
    /// Writes to an empty file, at most `limit` bytes: beyond, errors of kind `QuotaExceeded`.
    pub(crate) fn new(file: File, limit: u64) -> Self {
        Writer { blocks: BlockWriter::new(file, limit), data: DataWriter::new() }
    }

    /// Stores a regular file's data.
    pub(crate) fn store(
        &mut self,
        source: &mut impl BufRead,
        size: u64,
        attributes: &Attributes,
    ) -> io::Result<Data> {
        self.data.store(&mut self.blocks, source, size, inline_room(attributes))
    }

    /// Stores a sparse file's data.
    pub(crate) fn store_sparse(
        &mut self,
        source: &mut impl BufRead,
        size: u64,
        spans: &[Span],
    ) -> io::Result<Data> {
        self.data.store_sparse(&mut self.blocks, source, size, spans)
    }

    /// Writes the tree and the superblock.
    pub(crate) fn finish(self, tree: &Tree, uuid: [u8; 16], note: Note) -> io::Result<()> {
        let placement = Placement::new(tree, self.blocks.block())?;
        self.finish_placed(tree, &placement, uuid, note, 0)
    }

    /// Writes tree and superblock of an image that has `following` blocks of other files behind its own: there the
    /// data of the tree's files is, by block numbers that count from the first of them.
    pub(crate) fn finish_before(self, mut tree: Tree, uuid: [u8; 16], following: u32) -> io::Result<()> {
        let placement = Placement::new(&tree, self.blocks.block())?;
        tree.shift_data(placement.end_block())?;
        self.finish_placed(&tree, &placement, uuid, Note::default(), following)
    }

    fn finish_placed(
        mut self,
        tree: &Tree,
        placement: &Placement,
        uuid: [u8; 16],
        note: Note,
        following: u32,
    ) -> io::Result<()> {
        let blocks = placement.end_block().checked_add(following).ok_or(io::ErrorKind::QuotaExceeded)?;
        self.write_whole_blocks(tree, placement)?;
        let meta_block = self.blocks.block();
        self.write_inodes(tree, placement)?;
        self.blocks.pad()?;
        let superblock = Superblock {
            note,
            root_nid: ROOT_NID,
            inodes: placement.files().len() as u64,
            blocks,
            meta_block,
            uuid,
            has_chunks: placement.has_chunks(),
        };
        self.blocks.finish(&superblock.encode())
    }

    /// Writes what directories and links have in blocks of their own.
    fn write_whole_blocks(&mut self, tree: &Tree, placement: &Placement) -> io::Result<()> {
        for file in placement.files().iter().filter(|file| file.whole_blocks > 0) {
            match &tree.get(file.node).content {
                Content::Directory(_) => {
                    let data = DirectoryData::new(tree, file.node, file.parent);
                    let blocks = data.blocks(tree, |node| placement.nid(node));
                    for block in blocks.take(file.whole_blocks as usize) {
                        self.blocks.write(&block)?;
                        self.blocks.pad()?;
                    }
                }
                Content::Symlink(target) => {
                    self.blocks.write(target)?;
                    self.blocks.pad()?;
                }
                _ => (),
            }
        }
        Ok(())
    }

    /// Writes the metadata area.
    fn write_inodes(&mut self, tree: &Tree, placement: &Placement) -> io::Result<()> {
        let start = self.blocks.position();
        for file in placement.files() {
            let node = tree.get(file.node);
            self.blocks.skip_to(start + file.nid * INODE_SLOT)?;
            self.blocks.write(&file.plan(node)?.encode(node, file.nid as u32))?;
            match &node.content {
                Content::Directory(_) => {
                    let data = DirectoryData::new(tree, file.node, file.parent);
                    let blocks = data.blocks(tree, |node| placement.nid(node));
                    for inline in blocks.skip(file.whole_blocks as usize) {
                        self.blocks.write(&inline)?;
                    }
                }
                Content::Symlink(target) if file.whole_blocks == 0 => self.blocks.write(target)?,
                Content::Regular(Data::Flat { tail, .. }) => self.blocks.write(&tail.read()?)?,
                Content::Regular(Data::Chunked { blocks, .. }) => {
                    let table: Vec<u8> = blocks.iter().flat_map(|block| block.to_le_bytes()).collect();
                    self.blocks.write(&table)?;
                }
                _ => (),
            }
        }
        Ok(())
    }
}
