//! Writing EROFS, a file system that Linux mounts read-only, and reading what was written.
//!
//! The format is that of Linux 6.12, Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h; the images need no
//! newer kernel than 5.15 (chunk-based files). An image is written from front to back, so that file data goes to disk
//! as it arrives and only the tree of names and attributes is kept in memory:
//!
//! | block | holds |
//! |---|---|
//! | 0 | the superblock at byte 1024, written last |
//! | from 1 | file data, each file from a block's start |
//! | then | blocks of directories too large to be inline |
//! | from `meta_blkaddr` | inodes, each with its extended attributes, and its last part of data or its chunk table |
//!
//! A merged image has no file data of its own: it is followed by the images whose data its inodes point to.

mod blocks;
mod data;
mod directory;
mod format;
mod inode;
mod input;
mod placement;
mod reader;
mod tree;
mod writer;
mod xattr;

pub(crate) use data::{Data, Span};
pub(crate) use format::{BLOCK, Note};
pub(crate) use reader::{Entry, Inode, Reader};
pub(crate) use tree::{Attributes, Content, NodeId, Tree, device_number};
pub(crate) use writer::Writer;
pub(crate) use xattr::Xattr;
pub use xattr::XattrError;
