//! A directory's data: blocks of entries sorted by name, each block's entries first and its names behind them.

use super::format::{BLOCK, DIRENT, encode_dirent};
use super::tree::{NodeId, Tree};

/// A directory's entries as they come on disk, in blocks.
pub(crate) struct DirectoryData<'a> {
    entries: Vec<(&'a [u8], NodeId)>,
    /// Where in `entries` each block but the first begins.
    breaks: Vec<usize>,
    last_block: u64,
}

impl<'a> DirectoryData<'a> {
    /// The entries of a directory and its `.` and `..`, which are sorted in like any name.
    pub(crate) fn new(tree: &'a Tree, directory: NodeId, parent: NodeId) -> Self {
        let names = tree.names(directory).into_iter().flatten();
        let mut entries: Vec<(&[u8], NodeId)> = names.map(|(name, node)| (&**name, *node)).collect();
        for (name, node) in [(&b"."[..], directory), (b"..", parent)] {
            entries.insert(entries.partition_point(|(other, _)| *other < name), (name, node));
        }
        let mut breaks = Vec::new();
        let mut used = 0;
        for (index, (name, _)) in entries.iter().enumerate() {
            let size = (DIRENT + name.len()) as u64;
            if used + size > BLOCK {
                breaks.push(index);
                used = 0;
            }
            used += size;
        }
        DirectoryData { entries, breaks, last_block: used }
    }

    /// Its size in bytes: whole blocks, and what the last one uses.
    pub(crate) fn size(&self) -> u64 {
        self.breaks.len() as u64 * BLOCK + self.last_block
    }

    /// The blocks in turn, each no longer than what it uses.
    pub(crate) fn blocks(&self, tree: &Tree, nid: impl Fn(NodeId) -> u64) -> impl Iterator<Item = Vec<u8>> {
        let ends = self.breaks.iter().copied().chain([self.entries.len()]);
        let starts = [0].into_iter().chain(self.breaks.iter().copied());
        starts.zip(ends).map(move |(start, end)| {
            encode_block(self.entries.get(start..end).unwrap_or_default(), tree, &nid)
        })
    }
}

fn encode_block(entries: &[(&[u8], NodeId)], tree: &Tree, nid: impl Fn(NodeId) -> u64) -> Vec<u8> {
    let mut block = Vec::with_capacity(BLOCK as usize);
    let mut name_offset = entries.len() * DIRENT;
    for (name, node) in entries {
        let file_type = tree.get(*node).content.dirent_type();
        block.extend_from_slice(&encode_dirent(nid(*node), name_offset as u16, file_type));
        name_offset += name.len();
    }
    for (name, _) in entries {
        block.extend_from_slice(name);
    }
    block
}
