//! A chunk of output as it lies in a log: a header of 20 bytes, then the bytes.
//!
//! The header is the CRC-32C of all that follows it, the length, the time in ns since 1970-01-01 UTC (4, 4 and 8
//! bytes, little-endian), the stream (1 or 2), and three zeros.

use std::io::{self, ErrorKind, Read};

use jiff::Timestamp;

use super::{Chunk, Stream};

pub(super) const HEADER: usize = 20;

/// The most bytes of a chunk.
pub(super) const MAX_CHUNK: usize = 1 << 20;

/// Appends the frame of a chunk, which is no longer than [`MAX_CHUNK`], to `frame`.
pub(super) fn encode(time: Timestamp, stream: Stream, bytes: &[u8], frame: &mut Vec<u8>) {
    let mut rest = [0; HEADER - 4];
    let (length, after_length) = rest.split_at_mut(4);
    let (ns, after_ns) = after_length.split_at_mut(8);
    length.copy_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    ns.copy_from_slice(&i64::try_from(time.as_nanosecond()).unwrap_or(0).to_le_bytes());
    if let Some(kind) = after_ns.first_mut() {
        *kind = match stream {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        };
    }
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&rest), bytes);
    frame.extend_from_slice(&checksum.to_le_bytes());
    frame.extend_from_slice(&rest);
    frame.extend_from_slice(bytes);
}

/// The next chunk; `None` at the end, where a frame may be half written or damaged.
pub(super) fn decode(source: &mut impl Read) -> io::Result<Option<Chunk>> {
    let mut checksum = [0; 4];
    let mut rest = [0; HEADER - 4];
    if !(filled(source, &mut checksum)? && filled(source, &mut rest)?) {
        return Ok(None);
    }
    let [l0, l1, l2, l3, ns @ .., kind, _, _, _] = rest;
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if length > MAX_CHUNK {
        return Ok(None);
    }
    let mut bytes = vec![0; length];
    if !filled(source, &mut bytes)? {
        return Ok(None);
    }
    let intact = crc32c::crc32c_append(crc32c::crc32c(&rest), &bytes) == u32::from_le_bytes(checksum);
    let stream = match kind {
        1 => Stream::Stdout,
        2 => Stream::Stderr,
        _ => return Ok(None),
    };
    let time = Timestamp::from_nanosecond(i64::from_le_bytes(ns).into());
    Ok(time.ok().filter(|_| intact).map(|time| Chunk { time, stream, bytes }))
}

/// Whether there was enough to fill `buffer`.
fn filled(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match source.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stream() -> impl Strategy<Value = Stream> {
        prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)]
    }

    fn chunks() -> impl Strategy<Value = Vec<Chunk>> {
        let chunk = (any::<i64>(), stream(), prop::collection::vec(any::<u8>(), 0..300)).prop_map(
            |(ns, stream, bytes)| Chunk {
                time: Timestamp::from_nanosecond(ns.into()).unwrap(),
                stream,
                bytes,
            },
        );
        prop::collection::vec(chunk, 0..6)
    }

    fn encoded(chunks: &[Chunk]) -> Vec<u8> {
        let mut file = Vec::new();
        for Chunk { time, stream, bytes } in chunks {
            encode(*time, *stream, bytes, &mut file);
        }
        file
    }

    fn decoded(mut file: &[u8]) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        while let Some(chunk) = decode(&mut file).unwrap() {
            chunks.push(chunk);
        }
        chunks
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(chunks in chunks()) {
            prop_assert_eq!(decoded(&encoded(&chunks)), chunks);
        }

        #[test]
        fn a_log_cut_anywhere_is_read_up_to_there(chunks in chunks(), cut in any::<prop::sample::Index>()) {
            let file = encoded(&chunks);
            let read = decoded(&file[..cut.index(file.len() + 1)]);
            prop_assert_eq!(&read[..], &chunks[..read.len()]);
        }

        #[test]
        fn a_damaged_byte_ends_the_reading_before_it(chunks in chunks(), at in any::<prop::sample::Index>()) {
            let mut file = encoded(&chunks);
            prop_assume!(!file.is_empty());
            let at = at.index(file.len());
            file[at] ^= 0x10;
            let before = chunks.iter().scan(0, |end, chunk| { *end += HEADER + chunk.bytes.len(); Some(*end) });
            prop_assert_eq!(decoded(&file).len(), before.take_while(|end| *end <= at).count());
        }

        #[test]
        fn noise_makes_nothing_panic(noise in prop::collection::vec(any::<u8>(), 0..200)) {
            decoded(&noise);
        }
    }
}
