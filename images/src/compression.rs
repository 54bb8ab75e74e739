//! What archives and layers are compressed with, told from their first bytes.

use std::io::{self, BufRead, Read};

/// A decompressed stream.
pub(crate) type Decoder<'a> = Box<dyn Read + Send + 'a>;

/// Ways to compress that layers may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// Tells it from a stream's first four bytes.
    pub(crate) fn of(start: &[u8]) -> Compression {
        match start {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            _ => Compression::None,
        }
    }
}

/// Decompresses `stream` if its first bytes are those of gzip or zstd, else passes it on. Also says whether it was
/// compressed.
///
/// Media types are not asked: tools that write them wrongly exist, and the digests prove the content either way.
pub(crate) fn decode<'a>(mut stream: impl BufRead + Send + 'a) -> io::Result<(bool, Decoder<'a>)> {
    Ok(match Compression::of(stream.fill_buf()?) {
        Compression::Gzip => (true, Box::new(flate2::bufread::MultiGzDecoder::new(stream))),
        Compression::Zstd => (true, Box::new(zstd::stream::read::Decoder::with_buffer(stream)?)),
        Compression::None => (false, Box::new(stream)),
    })
}
