//! Answers the server gives itself.

/// An answer with data.
pub(crate) fn success(unique: u64, data: &[u8]) -> Vec<u8> {
    with_header(unique, 0, data)
}

/// An answer that is an error and nothing else.
pub(crate) fn failure(unique: u64, error: i32) -> Vec<u8> {
    with_header(unique, -error, &[])
}

/// struct fuse_out_header and what is behind it.
fn with_header(unique: u64, error: i32, body: &[u8]) -> Vec<u8> {
    const HEADER: usize = 16;
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    let mut answer = length.to_ne_bytes().to_vec();
    answer.extend(error.to_ne_bytes());
    answer.extend(unique.to_ne_bytes());
    answer.extend(body);
    answer
}
