//! What a layer's image says of its directories for the sake of layers below: extended attributes that no entry of a
//! layer can have, and that are gone once the layers are merged.
//!
//! An opaque directory shows nothing from below, as Linux marks it (Documentation/filesystems/overlayfs.rst,
//! "whiteouts and opaque directories"). An implied one has files in the layer but no entry of its own: unpacked upon
//! the layers below, it would keep the attributes those give it.

use super::whiteout;
use crate::erofs::{Attributes, NodeId, Note, Tree, Xattr};

const OPAQUE: &[u8] = b"trusted.overlay.opaque";
const IMPLIED: &[u8] = b"trusted.bulkhead.implied";
const RESERVED: [&[u8]; 2] = [b"trusted.overlay.", b"trusted.bulkhead."];

/// Whether a layer's entries may not have an attribute of this name: they could redirect overlayfs to other files.
pub(crate) fn is_reserved(xattr_name: &[u8]) -> bool {
    RESERVED.iter().any(|prefix| xattr_name.starts_with(prefix))
}

pub(crate) fn is_opaque(attributes: &Attributes) -> bool {
    has(attributes, OPAQUE)
}

pub(crate) fn is_implied(attributes: &Attributes) -> bool {
    has(attributes, IMPLIED)
}

/// The attributes of a directory the layer has no entry for: as if made by root, with mode 0755.
pub(crate) fn implied_directory() -> Attributes {
    Attributes { mode: 0o755, xattrs: marker(IMPLIED).into_iter().collect(), ..Attributes::default() }
}

pub(crate) fn make_opaque(tree: &mut Tree, directory: NodeId) {
    let attributes = &mut tree.get_mut(directory).attributes;
    if !is_opaque(attributes) {
        attributes.xattrs.extend(marker(OPAQUE));
    }
}

/// Lets the directory be another than the one of its name below: neither files nor attributes come from there.
pub(crate) fn renew(tree: &mut Tree, directory: NodeId) {
    remove(&mut tree.get_mut(directory).attributes, IMPLIED);
    make_opaque(tree, directory);
}

/// Removes all markers.
pub(crate) fn strip(attributes: &mut Attributes) {
    remove(attributes, OPAQUE);
    remove(attributes, IMPLIED);
}

/// What there is to know of a layer as a whole. The root's marker moves there: hardly a layer has an entry for it, and
/// most would need merging for that alone.
pub(crate) fn take_note(tree: &mut Tree) -> Note {
    let root = &mut tree.get_mut(Tree::ROOT).attributes;
    let root_implied = is_implied(root);
    remove(root, IMPLIED);
    Note { root_implied, stands_alone: !asks_below(tree) }
}

/// Whether anything in the tree is there for the sake of layers below.
fn asks_below(tree: &Tree) -> bool {
    let mut nodes = vec![Tree::ROOT];
    while let Some(node) = nodes.pop() {
        let attributes = &tree.get(node).attributes;
        if is_opaque(attributes) || is_implied(attributes) || whiteout::is_whiteout(&tree.get(node).content) {
            return true;
        }
        nodes.extend(tree.names(node).into_iter().flat_map(|names| names.values().copied()));
    }
    false
}

fn marker(name: &[u8]) -> Option<Xattr> {
    Xattr::new(name, b"y").ok().flatten()
}

fn has(attributes: &Attributes, name: &[u8]) -> bool {
    marker(name).is_some_and(|marker| attributes.xattrs.iter().any(|xattr| xattr.same_name(&marker)))
}

fn remove(attributes: &mut Attributes, name: &[u8]) {
    if let Some(marker) = marker(name) {
        attributes.xattrs.retain(|xattr| !xattr.same_name(&marker));
    }
}
