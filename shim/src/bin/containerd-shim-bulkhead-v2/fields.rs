//! Messages of protocol buffers of which only a few fields matter here: read without code made for all of them.

use protobuf::rt::skip_field_for_tag;
use protobuf::{CodedInputStream, Error};

/// Shows `take` each field of a message with its number; what it does not read is left out.
pub(crate) fn each_field(
    message: &[u8],
    mut take: impl FnMut(u32, &mut CodedInputStream<'_>) -> Result<bool, Error>,
) -> Result<(), Error> {
    let mut input = CodedInputStream::from_bytes(message);
    while let Some(tag) = input.read_raw_tag_or_eof()? {
        // A tag is a field's number and three bits of its kind (Protocol Buffers, Encoding).
        if !take(tag >> 3, &mut input)? {
            skip_field_for_tag(tag, &mut input)?;
        }
    }
    Ok(())
}

/// What `write` writes, as whoever sends such a message would.
#[cfg(test)]
pub(crate) fn message(
    write: impl FnOnce(&mut protobuf::CodedOutputStream<'_>) -> Result<(), Error>,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut output = protobuf::CodedOutputStream::vec(&mut bytes);
    write(&mut output).unwrap();
    output.flush().unwrap();
    drop(output);
    bytes
}
