//! Where everything but file data goes, decided before any of it is written: directories name inodes by their place.

use std::collections::VecDeque;
use std::io;

use super::directory::DirectoryData;
use super::format::{BLOCK, INODE_SLOT, NULL_BLOCK};
use super::inode::{InodePlan, whole_blocks};
use super::tree::{Content, Node, NodeId, Tree};
use super::xattr::XattrError;

/// The root directory's inode is the first. Not at the area's start: number 0 means "none" to readers of directories.
pub(crate) const ROOT_NID: u16 = 2;

/// All files that names lead to, directory by directory from the root: what is looked up together is read together.
pub(crate) struct Placement {
    files: Vec<PlacedFile>,
    /// Index into `files` by node.
    by_node: Vec<Option<usize>>,
    has_chunks: bool,
    /// The first block behind the metadata area.
    end_block: u32,
}

pub(crate) struct PlacedFile {
    pub(crate) node: NodeId,
    /// The directory it was found in: what a directory's `..` is.
    pub(crate) parent: NodeId,
    links: u32,
    size: u64,
    /// Where the data of a directory or link begins in blocks, and how many whole ones it takes there.
    block: u32,
    pub(crate) whole_blocks: u32,
    pub(crate) nid: u64,
}

impl PlacedFile {
    pub(crate) fn plan(&self, node: &Node) -> io::Result<InodePlan> {
        InodePlan::new(node, self.links, self.size, self.block, self.whole_blocks).map_err(invalid)
    }
}

impl Placement {
    /// Places the tree's files. Blocks are free from `first_block` on; the metadata area follows those taken.
    pub(crate) fn new(tree: &Tree, first_block: u32) -> io::Result<Placement> {
        let mut placement =
            Placement { files: Vec::new(), by_node: vec![None; tree.len()], has_chunks: false, end_block: 0 };
        placement.find_files(tree);
        let meta_block = placement.reserve_blocks(tree, first_block)?;
        let metadata = placement.number_inodes(tree)?.div_ceil(BLOCK);
        let end_block = u32::try_from(metadata).ok().and_then(|blocks| meta_block.checked_add(blocks));
        placement.end_block = end_block.ok_or(io::ErrorKind::QuotaExceeded)?;
        Ok(placement)
    }

    /// The first block behind everything.
    pub(crate) fn end_block(&self) -> u32 {
        self.end_block
    }

    pub(crate) fn files(&self) -> &[PlacedFile] {
        &self.files
    }

    /// Whether any file is chunk-based.
    pub(crate) fn has_chunks(&self) -> bool {
        self.has_chunks
    }

    /// The number of a file's inode.
    pub(crate) fn nid(&self, node: NodeId) -> u64 {
        let index = self.by_node.get(node.index()).copied().flatten();
        index.and_then(|index| self.files.get(index)).map_or(0, |file| file.nid)
    }

    /// Walks the tree by breadth, counting each file's links.
    fn find_files(&mut self, tree: &Tree) {
        let mut directories = VecDeque::from([Tree::ROOT]);
        self.add(Tree::ROOT, Tree::ROOT);
        while let Some(directory) = directories.pop_front() {
            let mut links = 2;
            for node in tree.names(directory).into_iter().flat_map(|names| names.values().copied()) {
                if let Some(file) = self.file_mut(node) {
                    file.links += 1;
                    continue;
                }
                self.add(node, directory);
                if tree.names(node).is_some() {
                    directories.push_back(node);
                    links += 1;
                }
            }
            if let Some(file) = self.file_mut(directory) {
                file.links = links;
            }
        }
    }

    fn add(&mut self, node: NodeId, parent: NodeId) {
        if let Some(index) = self.by_node.get_mut(node.index()) {
            *index = Some(self.files.len());
            let (size, block, whole_blocks) = (0, NULL_BLOCK, 0);
            self.files.push(PlacedFile { node, parent, links: 1, size, block, whole_blocks, nid: 0 });
        }
    }

    fn file_mut(&mut self, node: NodeId) -> Option<&mut PlacedFile> {
        let index = self.by_node.get(node.index()).copied().flatten()?;
        self.files.get_mut(index)
    }

    /// Sizes all files, and gives large directories and links their blocks; the next one free.
    fn reserve_blocks(&mut self, tree: &Tree, first_block: u32) -> io::Result<u32> {
        let mut next = first_block;
        for file in &mut self.files {
            let node = tree.get(file.node);
            file.size = match &node.content {
                Content::Directory(_) => DirectoryData::new(tree, file.node, file.parent).size(),
                Content::Symlink(target) => target.len() as u64,
                Content::Regular(data) => data.size(),
                Content::CharDevice(_) | Content::BlockDevice(_) | Content::Fifo => 0,
            };
            if matches!(node.content, Content::Directory(_) | Content::Symlink(_)) {
                file.whole_blocks = whole_blocks(&node.attributes, file.size);
                if file.whole_blocks > 0 {
                    file.block = next;
                    next = next.checked_add(file.whole_blocks).ok_or(io::ErrorKind::QuotaExceeded)?;
                }
            }
        }
        Ok(next)
    }

    /// Places the inodes; the metadata area's size in bytes.
    fn number_inodes(&mut self, tree: &Tree) -> io::Result<u64> {
        let mut offset = u64::from(ROOT_NID) * INODE_SLOT;
        for file in &mut self.files {
            let plan = file.plan(tree.get(file.node))?;
            let start = plan.place(offset);
            file.nid = start / INODE_SLOT;
            offset = (start + plan.size()).next_multiple_of(INODE_SLOT);
            self.has_chunks |= plan.is_chunked();
        }
        Ok(offset)
    }
}

fn invalid(error: XattrError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}
