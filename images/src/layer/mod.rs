//! One layer's way from blob to file system image: decompressed and hashed on one thread, built on another.

mod decode;
mod implied;
mod paths;
mod unpack;
mod whiteout;

pub use decode::DecodeError;
pub(crate) use decode::{BlobCheck, decode};
pub(crate) use implied::{copy_up, find_implied};
pub use paths::PathError;
pub(crate) use unpack::unpack;
pub use unpack::{EntryError, UnpackError};
