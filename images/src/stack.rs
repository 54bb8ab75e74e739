//! Merging layers' trees into the one that their stack shows: what overlayfs would make of them
//! (Documentation/filesystems/overlayfs.rst), and of directories a layer only implies what unpacking would.
//!
//! The tree is made from the top: under each name the uppermost file counts, and of directories, all down to one that
//! is opaque, or to a file or whiteout that hides the rest. What is hidden is never read.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;

use crate::erofs::{Attributes, Content, Entry, Inode, NodeId, Reader, Tree};
use crate::layer;

/// A layer cannot be read, or, of kind `QuotaExceeded`, there is no room for it behind those below.
#[derive(Debug)]
pub(crate) struct StackError {
    /// The layer's index in the stack.
    pub(crate) layer: usize,
    pub(crate) source: io::Error,
}

/// Merges layers, of which the lowest comes first. The blocks of the merged tree's files count from the first one of
/// the lowest layer's image, behind which the others' follow; all of them have the number of blocks given with it.
pub(crate) fn merge(layers: &[Reader]) -> Result<(Tree, u32), StackError> {
    let mut merging = Merging {
        layers,
        first_blocks: Vec::with_capacity(layers.len()),
        tree: Tree::new(Attributes::default()),
        linked: HashMap::new(),
    };
    let mut next: u32 = 0;
    for (layer, reader) in layers.iter().enumerate() {
        merging.first_blocks.push(next);
        let end = next.checked_add(reader.blocks());
        next = end.ok_or(StackError { layer, source: io::ErrorKind::QuotaExceeded.into() })?;
    }
    merging.run()?;
    Ok((merging.tree, next))
}

struct Merging<'a> {
    layers: &'a [Reader],
    /// Where each layer's blocks begin.
    first_blocks: Vec<u32>,
    tree: Tree,
    /// Files with several names in their layer, by layer and inode.
    linked: HashMap<(usize, u64), NodeId>,
}

/// What the layers looked at so far, from the top, have under a name.
enum Found {
    Removed,
    File(NodeId),
    Directory(MergedDirectory),
}

/// A directory of several layers.
#[derive(Default)]
struct MergedDirectory {
    /// In which layers it is, from the top, as far as they show.
    parts: Vec<(usize, Inode)>,
    /// Whether layers further down do not show.
    is_closed: bool,
    /// The uppermost attributes; those a layer stated, if `is_stated`.
    attributes: Attributes,
    is_stated: bool,
}

impl MergedDirectory {
    /// Adds what the next layer has of it.
    fn add(&mut self, layer: usize, mut inode: Inode, is_implied: bool) {
        let is_opaque = layer::is_opaque(&inode.attributes);
        layer::strip(&mut inode.attributes);
        if !self.is_stated && (!is_implied || self.parts.is_empty()) {
            self.attributes = std::mem::take(&mut inode.attributes);
            self.is_stated = !is_implied;
        }
        if !self.is_closed {
            self.parts.push((layer, inode));
        }
        self.is_closed |= is_opaque;
    }

    fn hide_rest(&mut self) {
        (self.is_closed, self.is_stated) = (true, true);
    }

    /// Whether no layer further down matters.
    fn is_settled(&self) -> bool {
        self.is_closed && self.is_stated
    }
}

impl Merging<'_> {
    /// Merges directory by directory, by breadth: in the order in which inodes stand in the layers' images.
    fn run(&mut self) -> Result<(), StackError> {
        let root = self.root()?;
        self.tree.get_mut(Tree::ROOT).attributes = root.attributes;
        let mut directories = VecDeque::from([(Tree::ROOT, root.parts)]);
        while let Some((directory, parts)) = directories.pop_front() {
            for (name, found) in self.entries(&parts)? {
                let node = match found {
                    Found::Removed => continue,
                    Found::File(node) => node,
                    Found::Directory(MergedDirectory { attributes, parts, .. }) => {
                        let node = self.tree.add(attributes, Content::Directory(BTreeMap::new()));
                        directories.push_back((node, parts));
                        node
                    }
                };
                self.tree.link(directory, &name, node);
            }
        }
        Ok(())
    }

    fn root(&self) -> Result<MergedDirectory, StackError> {
        let mut root = MergedDirectory::default();
        root.attributes.mode = 0o755;
        for (layer, reader) in self.layers.iter().enumerate().rev() {
            let inode = reader.root().map_err(|source| StackError { layer, source })?;
            root.add(layer, inode, reader.note().root_implied);
            if root.is_settled() {
                break;
            }
        }
        Ok(root)
    }

    /// The names in a directory, and what each stands for.
    fn entries(&mut self, parts: &[(usize, Inode)]) -> Result<BTreeMap<Box<[u8]>, Found>, StackError> {
        let mut entries = BTreeMap::new();
        for (layer, directory) in parts {
            self.add_entries(*layer, directory, &mut entries)
                .map_err(|source| StackError { layer: *layer, source })?;
        }
        Ok(entries)
    }

    /// Adds what a layer has in the directory, below what is there already.
    fn add_entries(
        &mut self,
        layer: usize,
        directory: &Inode,
        entries: &mut BTreeMap<Box<[u8]>, Found>,
    ) -> io::Result<()> {
        let Some(reader) = self.layers.get(layer) else { return Ok(()) };
        for entry in reader.entries(directory)? {
            match entries.get_mut(&entry.name) {
                None => {
                    let found = self.find(layer, reader, &entry)?;
                    entries.insert(entry.name, found);
                }
                Some(Found::Directory(upper)) if upper.is_settled() => (),
                Some(Found::Directory(upper)) if entry.is_directory => {
                    let inode = reader.directory(&entry)?;
                    let is_implied = layer::is_implied(&inode.attributes);
                    upper.add(layer, inode, is_implied);
                }
                Some(Found::Directory(upper)) => upper.hide_rest(),
                Some(_) => (),
            }
        }
        Ok(())
    }

    /// What a layer's entry is, with nothing above it.
    fn find(&mut self, layer: usize, reader: &Reader, entry: &Entry) -> io::Result<Found> {
        if entry.is_directory {
            let inode = reader.directory(entry)?;
            let is_implied = layer::is_implied(&inode.attributes);
            let mut directory = MergedDirectory::default();
            directory.add(layer, inode, is_implied);
            return Ok(Found::Directory(directory));
        }
        if let Some(node) = self.linked.get(&(layer, entry.number)) {
            return Ok(Found::File(*node));
        }
        let inode = reader.inode(entry.number)?;
        let mut content = reader.content(&inode)?;
        if layer::is_whiteout(&content) {
            return Ok(Found::Removed);
        }
        if let Content::Regular(data) = &mut content {
            data.shift(self.first_blocks.get(layer).copied().unwrap_or_default())?;
        }
        let node = self.tree.add(inode.attributes, content);
        if inode.links > 1 {
            self.linked.insert((layer, entry.number), node);
        }
        Ok(Found::File(node))
    }
}
