//! What the host writes first on a connection to [`crate::ports::STREAM_PORT`]: the id of the stream it opens.

/// Length of the header in bytes.
pub const LEN: usize = 8;

/// The header of stream `id`.
pub fn encode(id: u64) -> [u8; LEN] {
    id.to_le_bytes()
}

/// The id a header names.
pub fn decode(header: [u8; LEN]) -> u64 {
    u64::from_le_bytes(header)
}
