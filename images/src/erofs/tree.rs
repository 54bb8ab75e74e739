//! The tree of a file system in memory: all but the files' data.

use std::collections::BTreeMap;
use std::io;

use super::data::Data;
use super::xattr::Xattr;
use crate::tar::Timestamp;

/// A file in a [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeId(u32);

/// Files reached by names from the root. Nodes no name leads to any more are not written.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) attributes: Attributes,
    pub(crate) content: Content,
}

/// What files of all types have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes {
    /// Permission bits, with set-id and sticky.
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
    pub(crate) xattrs: Vec<Xattr>,
}

/// A file's type, and what it holds.
#[derive(Debug)]
pub(crate) enum Content {
    Directory(BTreeMap<Box<[u8]>, NodeId>),
    Regular(Data),
    Symlink(Box<[u8]>),
    CharDevice(u32),
    BlockDevice(u32),
    Fifo,
}

impl Content {
    /// The type bits of `st_mode`.
    pub(crate) fn type_bits(&self) -> u16 {
        match self {
            Content::Fifo => 0o010_000,
            Content::CharDevice(_) => 0o020_000,
            Content::Directory(_) => 0o040_000,
            Content::BlockDevice(_) => 0o060_000,
            Content::Regular(_) => 0o100_000,
            Content::Symlink(_) => 0o120_000,
        }
    }

    /// The type in a directory entry (`FT_*` in include/linux/fs_types.h).
    pub(crate) fn dirent_type(&self) -> u8 {
        match self {
            Content::Regular(_) => 1,
            Content::Directory(_) => 2,
            Content::CharDevice(_) => 3,
            Content::BlockDevice(_) => 4,
            Content::Fifo => 5,
            Content::Symlink(_) => 7,
        }
    }
}

impl Tree {
    pub(crate) const ROOT: NodeId = NodeId(0);

    /// A tree of one empty directory.
    pub(crate) fn new(root: Attributes) -> Self {
        Tree { nodes: vec![Node { attributes: root, content: Content::Directory(BTreeMap::new()) }] }
    }

    /// Files in it, with those no name leads to any more.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Adds a file without a name.
    pub(crate) fn add(&mut self, attributes: Attributes, content: Content) -> NodeId {
        self.nodes.push(Node { attributes, content });
        NodeId(self.nodes.len() as u32 - 1)
    }

    pub(crate) fn get(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    pub(crate) fn get_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.index()]
    }

    /// The names in a directory; `None` if the file is none.
    pub(crate) fn names(&self, id: NodeId) -> Option<&BTreeMap<Box<[u8]>, NodeId>> {
        match &self.get(id).content {
            Content::Directory(names) => Some(names),
            _ => None,
        }
    }

    /// Counts the blocks of all files' data from so many blocks earlier.
    pub(crate) fn shift_data(&mut self, count: u32) -> io::Result<()> {
        self.nodes.iter_mut().try_for_each(|node| match &mut node.content {
            Content::Regular(data) => data.shift(count),
            _ => Ok(()),
        })
    }

    /// Gives a file a name in a directory, in place of what had it.
    pub(crate) fn link(&mut self, directory: NodeId, name: &[u8], node: NodeId) {
        if let Content::Directory(names) = &mut self.get_mut(directory).content {
            names.insert(name.into(), node);
        }
    }
}

impl NodeId {
    /// Ids come from one tree's `add` alone, which never removes: they index its nodes.
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A device number as Linux's `new_encode_dev` packs it: 12 bits of major, 20 of minor.
pub(crate) fn device_number(major: u64, minor: u64) -> Option<u32> {
    let major = u32::try_from(major).ok().filter(|major| *major < 1 << 12)?;
    let minor = u32::try_from(minor).ok().filter(|minor| *minor < 1 << 20)?;
    Some(minor & 0xff | major << 8 | (minor & !0xff) << 12)
}
