//! What a long operation tells about itself.

use crate::digest::Sha256;

/// Follows the layers of a pull, load or push, several of them at a time: each by the digest of its blob (of its
/// content, where nobody has named the blob).
pub trait Progress: Sync {
    /// The layer is there already: nothing else will be told of it.
    fn exists(&self, _layer: &Sha256) {}
    /// Its transfer begins; it has so many bytes.
    fn begin(&self, _layer: &Sha256, _size: u64) {}
    /// So many of its bytes are through by now.
    fn bytes(&self, _layer: &Sha256, _bytes: u64) {}
    /// All of it is there and proven.
    fn done(&self, _layer: &Sha256) {}
}

/// Follows nothing.
impl Progress for () {}
