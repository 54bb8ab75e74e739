//! `--memory`: what a container may use.

use std::str::FromStr;

use super::bytes::{Bytes, BytesError};

/// A limit in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory(pub u64);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum MemoryError {
    #[error(transparent)]
    Bytes(#[from] BytesError),
    #[error("a container needs at least {} MiB", sandbox::MIN_MEMORY >> 20)]
    TooSmall,
}

impl FromStr for Memory {
    type Err = MemoryError;

    fn from_str(text: &str) -> Result<Self, MemoryError> {
        let Bytes(bytes) = text.parse()?;
        if bytes < sandbox::MIN_MEMORY { Err(MemoryError::TooSmall) } else { Ok(Self(bytes)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_than_a_guest_boots_with_is_refused() {
        assert_eq!("256m".parse(), Ok(Memory(256 << 20)));
        assert_eq!("5m".parse::<Memory>(), Err(MemoryError::TooSmall));
        assert_eq!("0".parse::<Memory>(), Err(MemoryError::TooSmall));
        assert_eq!("5x".parse::<Memory>(), Err(MemoryError::Bytes(BytesError::Malformed)));
    }
}
