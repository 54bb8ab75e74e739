//! Where an upload's bytes come from.

use std::io::{self, Read};

/// An upload's bytes: as many as were promised, or an error that is remembered apart from the connection's.
pub(super) struct Source<'a> {
    inner: Box<dyn Read + 'a>,
    left: u64,
    pub(super) failure: Option<io::Error>,
}

impl<'a> Source<'a> {
    pub(super) fn new(inner: Box<dyn Read + 'a>, size: u64) -> Self {
        Source { inner, left: size, failure: None }
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let max = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..max).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        loop {
            match self.inner.read(buffer) {
                // ureq would wait for the rest for ever.
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends too early")),
                Ok(count) => {
                    self.left -= count as u64;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_some(buffer).map_err(|error| {
            let told = io::Error::new(error.kind(), "the source of the upload failed");
            self.failure = Some(error);
            told
        })
    }
}
