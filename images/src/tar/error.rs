//! Why an archive cannot be read.

use std::io;

use thiserror::Error;

/// Bytes an extension header may have: room for the largest extended attributes Linux knows.
pub(super) const MAX_EXTENSION: u64 = 1 << 20;

/// Why an archive cannot be read further.
#[derive(Debug, Error)]
pub enum TarError {
    /// Reading failed, or the archive ends within an entry.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A header block is wrong.
    #[error("not a tar archive, or a damaged one: at byte {offset}, an entry's header: {cause}")]
    Header {
        /// Where the header is, in bytes from the start of the uncompressed archive.
        offset: u64,
        /// Which field is wrong.
        cause: &'static str,
    },
    /// An entry is of no kind that a file system has.
    #[error("entry {path:?} is of type {flag:?}, which cannot be unpacked")]
    Kind {
        /// The entry's name.
        path: String,
        /// Its type flag.
        flag: char,
    },
    /// An extension header is larger than any sane one.
    #[error("an entry's extended header has {0} bytes; at most {MAX_EXTENSION} are read")]
    Extension(u64),
    /// A sparse file's map is wrong.
    #[error("a sparse file's map: {0}")]
    Sparse(&'static str),
}
