//! SHA-256 digests: what names blobs and layers, and what proves their content.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use ring::digest::{Context, Digest, SHA256};
use thiserror::Error;

/// A SHA-256 digest, written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256([u8; 32]);

/// Text that is no digest this crate can check.
#[derive(Debug, Error)]
#[error("\"{0}\" is not a SHA-256 digest (sha256: and 64 hexadecimal digits)")]
pub struct DigestError(String);

impl Sha256 {
    /// The digest's own 32 bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hexadecimal digits alone: safe as a file name.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn of(bytes: &[u8]) -> Self {
        ring::digest::digest(&SHA256, bytes).into()
    }
}

impl From<Digest> for Sha256 {
    fn from(digest: Digest) -> Self {
        let mut bytes = [0; 32];
        bytes.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        Sha256(bytes)
    }
}

impl FromStr for Sha256 {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let error = || DigestError(text.chars().take(100).collect());
        let hex = text.strip_prefix("sha256:").ok_or_else(error)?.as_bytes();
        let mut bytes = [0; 32];
        if hex.len() != 64 {
            return Err(error());
        }
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            let nibble = |digit: u8| match digit {
                b'0'..=b'9' => Some(digit - b'0'),
                b'a'..=b'f' => Some(digit - b'a' + 10),
                _ => None,
            };
            let &[high, low] = pair else { return Err(error()) };
            *byte = nibble(high).zip(nibble(low)).map(|(high, low)| high << 4 | low).ok_or_else(error)?;
        }
        Ok(Sha256(bytes))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Passes a stream on, and knows how long it was and what it hashes to.
pub(crate) struct Hashing<R> {
    inner: R,
    state: Context,
    length: u64,
}

impl<R: Read> Hashing<R> {
    pub(crate) fn new(inner: R) -> Self {
        Hashing { inner, state: Context::new(&SHA256), length: 0 }
    }

    /// Bytes that went through so far.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The digest of all that went through.
    pub(crate) fn finish(self) -> Sha256 {
        self.state.finish().into()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.state.update(buffer.get(..count).unwrap_or_default());
        self.length += count as u64;
        Ok(count)
    }
}

/// Writes on, and knows how much it was and what it hashes to.
pub(crate) struct HashingWriter<W> {
    inner: W,
    state: Context,
    length: u64,
}

impl<W: Write> HashingWriter<W> {
    pub(crate) fn new(inner: W) -> Self {
        HashingWriter { inner, state: Context::new(&SHA256), length: 0 }
    }

    /// The digest and length of all that was written.
    pub(crate) fn finish(self) -> (Sha256, u64) {
        (self.state.finish().into(), self.length)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(data)?;
        self.state.update(data.get(..count).unwrap_or_default());
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_lower_case_sha256_is_read() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(empty.parse::<Sha256>().unwrap(), Sha256::of(b""));
        assert_eq!(Sha256::of(b"").to_string(), empty);
        for wrong in ["", "sha256:", "sha256:../../etc", &empty[..70], &empty.to_uppercase(), &empty[7..]] {
            assert!(wrong.parse::<Sha256>().is_err(), "{wrong}");
        }
    }
}
