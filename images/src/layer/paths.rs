//! The names in a layer, and the rule that none leads out of it.
//!
//! Nothing is unpacked to the host, so a name cannot reach a host file whatever it holds; but a layer that tries is
//! broken or hostile, and what it would make in the guest is anyone's guess. It is refused.

use thiserror::Error;

use super::{markers, whiteout};
use crate::erofs::{Content, NodeId, Tree};

/// Bytes a path may have: `PATH_MAX` of Linux.
const MAX_PATH: usize = 4096;
const MAX_NAME: usize = 255;

/// Why a layer's entry has no place in its tree.
#[derive(Debug, Error)]
pub enum PathError {
    /// It starts with a slash.
    #[error("its path is absolute")]
    Absolute,
    /// It has a `..` in it.
    #[error("its path climbs out with \"..\"")]
    Climbs,
    /// A part of it is no directory, but a symbolic link perhaps.
    #[error("its path leads through \"{0}\", which is not a directory")]
    ThroughFile(String),
    /// It is longer than Linux allows.
    #[error("its path has a name over {MAX_NAME} bytes, or over {MAX_PATH} in all")]
    TooLong,
    /// It has a NUL in it.
    #[error("its path has a NUL byte in it")]
    Nul,
    /// It would replace the root directory.
    #[error("it has the root directory's path, and is none")]
    Root,
    /// A hard link to what is not there.
    #[error("it is a hard link to \"{0}\", which is no earlier file of this layer")]
    LinkTarget(String),
}

/// A path's names. `.` and doubled slashes are nothing.
pub(crate) fn split(path: &[u8]) -> Result<Vec<&[u8]>, PathError> {
    if path.starts_with(b"/") {
        return Err(PathError::Absolute);
    }
    if path.len() > MAX_PATH {
        return Err(PathError::TooLong);
    }
    let mut names = Vec::new();
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => (),
            b".." => return Err(PathError::Climbs),
            name if name.len() > MAX_NAME => return Err(PathError::TooLong),
            name if name.contains(&0) => return Err(PathError::Nul),
            name => names.push(name),
        }
    }
    Ok(names)
}

/// The directory at `names`. Those missing on the way are made, as if by root with mode 0755.
pub(crate) fn make_directories(tree: &mut Tree, names: &[&[u8]]) -> Result<NodeId, PathError> {
    let mut directory = Tree::ROOT;
    for (depth, name) in names.iter().enumerate() {
        let found = tree.names(directory).and_then(|children| children.get(*name).copied());
        directory = match found {
            Some(node) if tree.names(node).is_some() => node,
            Some(node) if !whiteout::is_whiteout(&tree.get(node).content) => {
                return Err(PathError::ThroughFile(text(names.get(..=depth).unwrap_or_default())));
            }
            removed => {
                let node = tree.add(markers::implied_directory(), Content::Directory(Default::default()));
                if removed.is_some() {
                    markers::renew(tree, node);
                }
                tree.link(directory, name, node);
                node
            }
        };
    }
    Ok(directory)
}

/// The file a hard link names.
pub(crate) fn find_link_target(tree: &Tree, path: &[u8]) -> Result<NodeId, PathError> {
    let mut node = Tree::ROOT;
    let names = split(path)?;
    for (depth, name) in names.iter().enumerate() {
        let Some(children) = tree.names(node) else {
            return Err(PathError::ThroughFile(text(names.get(..depth).unwrap_or_default())));
        };
        node = *children.get(*name).ok_or_else(|| PathError::LinkTarget(text(&names)))?;
    }
    match tree.names(node).is_some() || whiteout::is_whiteout(&tree.get(node).content) {
        true => Err(PathError::LinkTarget(text(&names))),
        false => Ok(node),
    }
}

fn text(names: &[&[u8]]) -> String {
    String::from_utf8_lossy(&names.join(&b'/')).into_owned()
}
