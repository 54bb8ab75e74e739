//! One layer's way from blob to file system image: decompressed and hashed on one thread, built on another.

mod decode;
mod markers;
mod paths;
mod unpack;
mod whiteout;

pub use decode::DecodeError;
pub(crate) use decode::{BlobCheck, Proven, decode};
pub(crate) use markers::{is_implied, is_opaque, strip, take_note};
pub use paths::PathError;
pub(crate) use unpack::unpack;
pub use unpack::{EntryError, UnpackError};
pub(crate) use whiteout::is_whiteout;
