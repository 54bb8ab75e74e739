//! Directories a layer has files in but no entry for. Unpacked upon the layers below, they would keep the attributes
//! those give them; in a stack of file systems, the upper one's count. So they are copied up.

use std::io;
use std::path::PathBuf;

use super::whiteout;
use crate::erofs::{Lookup, NodeId, Reader, Tree};

/// A directory without an entry, and its path.
pub(crate) struct ImpliedDirectory {
    node: NodeId,
    path: Vec<Box<[u8]>>,
}

/// Finds them. The root is none: hardly a layer has an entry for it, and its attributes are nobody's concern. Nor are
/// those in opaque directories, which show nothing from below.
pub(crate) fn find_implied(tree: &Tree) -> Vec<ImpliedDirectory> {
    let mut found = Vec::new();
    let mut directories = vec![(Tree::ROOT, Vec::new())];
    while let Some((directory, path)) = directories.pop() {
        for (name, node) in tree.names(directory).into_iter().flatten() {
            if tree.names(*node).is_none() || whiteout::is_opaque(tree, *node) {
                continue;
            }
            let path: Vec<Box<[u8]>> = path.iter().chain([name]).cloned().collect();
            if tree.get(*node).attributes.implied {
                found.push(ImpliedDirectory { node: *node, path: path.clone() });
            }
            directories.push((*node, path));
        }
    }
    found
}

/// Gives them the attributes they have in the images below, of which the lowest comes first.
pub(crate) fn copy_up(tree: &mut Tree, implied: &[ImpliedDirectory], below: &[PathBuf]) -> io::Result<()> {
    let below = below.iter().rev().map(|path| Reader::open(path)).collect::<io::Result<Vec<_>>>()?;
    for directory in implied {
        for layer in &below {
            match layer.find(&directory.path, whiteout::is_marked_opaque)? {
                Lookup::Absent => (),
                Lookup::Hidden => break,
                Lookup::Directory(mut attributes) => {
                    whiteout::remove_opaque_marker(&mut attributes);
                    tree.get_mut(directory.node).attributes = attributes;
                    break;
                }
            }
        }
    }
    Ok(())
}
