//! Reading tar archives a stranger made: one entry at a time, straight from a stream, in bounded memory.
//!
//! Own code, as the `tar` crate takes extension headers of any size into memory, fills the holes of sparse files
//! with zeros, and splits binary extended attributes at line ends. The formats are those of POSIX.1-2017 (pax,
//! ustar) and of GNU tar's manual ("Basic Tar Format", "Storing Sparse Files").

mod error;
mod header;
mod pax;
mod reader;
mod sparse;

pub use error::TarError;
pub use header::{Kind, Timestamp};
pub use reader::{Entry, TarReader};
pub use sparse::Segment;
