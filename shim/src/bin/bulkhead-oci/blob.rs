//! What is too long for a packet: JSON in a file without a name, whose descriptor travels beside the packet.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, memfd_create};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest that is read, in bytes.
const MAX: u64 = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub(crate) enum BlobError {
    #[error("cannot pass it on")]
    File(#[from] io::Error),
    #[error("it is longer than {MAX} bytes")]
    TooLong,
    #[error("cannot encode or decode it")]
    Json(#[from] serde_json::Error),
}

pub(crate) fn write(value: &impl Serialize) -> Result<OwnedFd, BlobError> {
    let file = memfd_create("bulkhead-oci", MemfdFlags::CLOEXEC).map_err(io::Error::from)?;
    let mut file = File::from(file);
    file.write_all(&serde_json::to_vec(value)?)?;
    Ok(file.into())
}

pub(crate) fn read<T: DeserializeOwned>(blob: OwnedFd) -> Result<T, BlobError> {
    let mut file = File::from(blob);
    file.rewind()?;
    parse(file)
}

/// The whole of a file, or of standard input.
pub(crate) fn parse<T: DeserializeOwned>(file: impl Read) -> Result<T, BlobError> {
    let mut bytes = Vec::new();
    file.take(MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX {
        return Err(BlobError::TooLong);
    }
    Ok(serde_json::from_slice(&bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_longer_than_a_packet_arrives_whole() {
        let words: Vec<String> = (0..50_000).map(|n| n.to_string()).collect();
        assert_eq!(read::<Vec<String>>(write(&words).unwrap()).unwrap(), words);
        assert!(matches!(read::<u8>(write(&words).unwrap()), Err(BlobError::Json(_))));
        assert!(matches!(parse::<u8>(io::repeat(b' ')), Err(BlobError::TooLong)));
    }
}
