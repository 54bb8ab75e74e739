//! What archives and layers are compressed with, told from their first bytes.

use std::io::{self, BufRead, Read};

/// A decompressed stream.
pub(crate) type Decoder<'a> = Box<dyn Read + Send + 'a>;

/// Decompresses `stream` if its first bytes are those of gzip (RFC 1952) or zstd (RFC 8878), else passes it on. Also
/// says whether it was compressed.
///
/// Media types are not asked: tools that write them wrongly exist, and the digests prove the content either way.
pub(crate) fn decode<'a>(mut stream: impl BufRead + Send + 'a) -> io::Result<(bool, Decoder<'a>)> {
    let start = stream.fill_buf()?;
    Ok(if start.starts_with(&[0x1f, 0x8b]) {
        (true, Box::new(flate2::bufread::MultiGzDecoder::new(stream)))
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        (true, Box::new(zstd::stream::read::Decoder::with_buffer(stream)?))
    } else {
        (false, Box::new(stream))
    })
}
