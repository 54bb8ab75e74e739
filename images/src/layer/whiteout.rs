//! What a layer takes away from those below it: from the names of the OCI image specification (layer.md,
//! "Whiteouts") to the forms of Linux's overlayfs (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque
//! directories"), in which a layer's image keeps it until the layers are merged.

use super::markers;
use crate::erofs::{Attributes, Content, NodeId, Tree};

const PREFIX: &[u8] = b".wh.";
/// Names with this prefix are AUFS's own; of those, only the opaque marker means anything here.
const META_PREFIX: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What an entry's name asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Whiteout<'a> {
    /// Nothing below shows through the entry's directory.
    Opaque,
    /// The file of this name is gone.
    Removed(&'a [u8]),
    /// Nothing: left over from AUFS.
    Ignored,
}

/// What the name means, if it is a whiteout's.
pub(crate) fn read(name: &[u8]) -> Option<Whiteout<'_>> {
    let removed = name.strip_prefix(PREFIX)?;
    Some(match name {
        OPAQUE => Whiteout::Opaque,
        name if name.starts_with(META_PREFIX) => Whiteout::Ignored,
        // There is nothing such a name could remove.
        _ if matches!(removed, b"" | b"." | b"..") => Whiteout::Ignored,
        _ => Whiteout::Removed(removed),
    })
}

/// Hides `name` of the layers below. What this layer itself has there stays, wherever in the archive it stands; a
/// directory then shows nothing from below.
pub(crate) fn remove(tree: &mut Tree, directory: NodeId, name: &[u8]) {
    match tree.names(directory).and_then(|names| names.get(name).copied()) {
        Some(node) if tree.names(node).is_some() => markers::renew(tree, node),
        Some(_) => (),
        None => {
            let node = tree.add(Attributes::default(), Content::CharDevice(0));
            tree.link(directory, name, node);
        }
    }
}

/// Whether the file stands for a removed one.
pub(crate) fn is_whiteout(content: &Content) -> bool {
    matches!(content, Content::CharDevice(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        assert_eq!(read(b"file"), None);
        assert_eq!(read(b".wh.file"), Some(Whiteout::Removed(b"file")));
        assert_eq!(read(b".wh..wh..opq"), Some(Whiteout::Opaque));
        assert_eq!(read(b".wh..wh.plnk"), Some(Whiteout::Ignored));
        for nothing in [&b".wh."[..], b".wh..", b".wh..."] {
            assert_eq!(read(nothing), Some(Whiteout::Ignored));
        }
    }
}
