//! What an image may ask of this machine before its import is refused.

/// Bounds on what importing one image may produce. An image is a stranger's input: every quantity it controls has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes a layer may unpack to, and bytes its EROFS file may take.
    pub layer_bytes: u64,
    /// How many times its compressed size a layer may unpack to, once it is past [`Limits::ratio_from`].
    pub ratio: u64,
    /// Bytes below which the ratio is not asked for: a small layer of zeros harms nobody.
    pub ratio_from: u64,
    /// Files a layer may hold. Each costs a few hundred bytes of memory during the import.
    pub entries: u64,
    /// Bytes of memory a layer's names, extended attributes and the like may take during the import.
    pub metadata_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            layer_bytes: 64 << 30,
            ratio: 200,
            ratio_from: 1 << 30,
            entries: 2_000_000,
            metadata_bytes: 1 << 30,
        }
    }
}
