//! The layer's uncompressed tar stream, proven against both its digests while it is read.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use thiserror::Error;

use crate::compression;
use crate::digest::{Hashing, Sha256};
use crate::limits::Limits;
use crate::source::Blob;

const CHUNK: usize = 256 << 10;
/// Chunks on their way between the two threads.
const QUEUE: usize = 8;

/// What a layer's blob must turn out to be, as far as that is known.
pub(crate) struct BlobCheck {
    pub(crate) digest: Option<Sha256>,
    pub(crate) size: u64,
    pub(crate) diff_id: Option<Sha256>,
}

/// What a layer's blob has turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Proven {
    pub(crate) digest: Sha256,
    pub(crate) diff_id: Sha256,
}

/// Why a blob is not the layer it should be.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// It cannot be read, or not be decompressed.
    #[error("reading it failed: {0}")]
    Read(#[from] io::Error),
    /// The file is longer or shorter than the manifest says.
    #[error("it has {actual} bytes instead of {expected}{}", if .actual < .expected { ": it is truncated" } else { "" })]
    Size {
        /// Size by the manifest.
        expected: u64,
        /// Size of the file.
        actual: u64,
    },
    /// The blob's content is not what its digest says.
    #[error("its digest does not match: the file has {actual} instead of {expected}")]
    Digest {
        /// Digest by the manifest.
        expected: Sha256,
        /// Digest of the file.
        actual: Sha256,
    },
    /// The content is not what the image's configuration says.
    #[error("its diff_id does not match: uncompressed, it has {actual} instead of {expected}")]
    DiffId {
        /// Digest by the configuration.
        expected: Sha256,
        /// Digest of the uncompressed content.
        actual: Sha256,
    },
    /// It unpacks to too much.
    #[error("it unpacks to more than the limit of {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// It unpacks to suspiciously much.
    #[error(
        "it unpacks to more than {ratio} times its size of {size} bytes, the limit for what exceeds {from} bytes"
    )]
    Bomb {
        /// The limit.
        ratio: u64,
        /// Size of the blob.
        size: u64,
        /// Below this many bytes, the ratio is not asked for.
        from: u64,
    },
}

/// Decodes a blob on a thread of its own while `consume` reads the result; then proves the digests.
///
/// `progress` learns how many bytes of the blob have been read. What is wrong with the blob explains what `consume`
/// stumbles over, so it takes precedence; `E` is made of both.
pub(crate) fn decode<T, E: From<DecodeError>>(
    blob: Blob<'_>,
    check: &BlobCheck,
    limits: &Limits,
    progress: &mut dyn FnMut(u64),
    consume: impl FnOnce(&mut Chunks<'_>) -> Result<T, E>,
) -> Result<(T, Proven), E> {
    if blob.size != check.size {
        return Err(DecodeError::Size { expected: check.size, actual: blob.size }.into());
    }
    let position = AtomicU64::new(0);
    let (full, filled) = sync_channel(QUEUE);
    let (used, empty) = channel();
    std::thread::scope(|scope| {
        let outlet = Outlet { full, empty, position: &position };
        let producer = scope.spawn(|| outlet.produce(blob, check, limits));
        let mut chunks = Chunks { filled, used, chunk: Vec::new(), at: 0, position: &position, progress };
        let consumed = consume(&mut chunks);
        // A fault in the content may come from a fault in the blob: the rest is needed to tell.
        let drained = chunks.drain();
        drop(chunks);
        let produced = producer.join().unwrap_or_else(|_| Err(io::Error::other("the decoder failed").into()));
        let proven = produced?;
        let value = consumed?;
        drained.map_err(DecodeError::Read)?;
        Ok((value, proven))
    })
}

/// The producing side.
struct Outlet<'a> {
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    position: &'a AtomicU64,
}

impl Outlet<'_> {
    /// Sends the uncompressed stream, then compares both digests.
    fn produce(self, blob: Blob<'_>, check: &BlobCheck, limits: &Limits) -> Result<Proven, DecodeError> {
        let metered = Metered { inner: blob.stream, position: self.position };
        let mut stored = BufReader::with_capacity(CHUNK, Hashing::new(metered));
        let decoded = self.send_all(&mut stored, blob.size, limits);
        if let Err(error @ (DecodeError::TooLarge { .. } | DecodeError::Bomb { .. })) = decoded {
            return Err(error);
        }
        // A blob that cannot be decompressed is read to its end nevertheless: its digest says more.
        io::copy(&mut stored, &mut io::sink())?;
        let digest = stored.into_inner().finish();
        match check.digest {
            Some(expected) if expected != digest => {
                return Err(DecodeError::Digest { expected, actual: digest });
            }
            _ => (),
        }
        let diff_id = decoded?;
        match check.diff_id {
            Some(expected) if expected != diff_id => Err(DecodeError::DiffId { expected, actual: diff_id }),
            _ => Ok(Proven { digest, diff_id }),
        }
    }

    /// Decompresses and sends all of it; gives its digest.
    fn send_all(
        &self,
        stored: &mut (impl BufRead + Send),
        size: u64,
        limits: &Limits,
    ) -> Result<Sha256, DecodeError> {
        let (_, decoder) = compression::decode(stored)?;
        let mut content = Hashing::new(decoder);
        loop {
            let mut chunk = self.empty.try_recv().unwrap_or_default();
            chunk.resize(CHUNK, 0);
            let count = read_full(&mut content, &mut chunk)?;
            if count == 0 {
                return Ok(content.finish());
            }
            check_limits(content.length(), size, limits)?;
            chunk.truncate(count);
            // Whoever reads hangs up only when something has failed there.
            if self.full.send(chunk).is_err() {
                return Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
            }
        }
    }
}

fn check_limits(length: u64, size: u64, limits: &Limits) -> Result<(), DecodeError> {
    if length > limits.layer_bytes {
        return Err(DecodeError::TooLarge { limit: limits.layer_bytes });
    }
    if length > limits.ratio_from && length / limits.ratio.max(1) > size {
        return Err(DecodeError::Bomb { ratio: limits.ratio, size, from: limits.ratio_from });
    }
    Ok(())
}

fn read_full(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The consuming side: the uncompressed stream. It also ends where decoding failed; [`decode`] then says why.
pub(crate) struct Chunks<'a> {
    filled: Receiver<Vec<u8>>,
    used: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
    position: &'a AtomicU64,
    progress: &'a mut dyn FnMut(u64),
}

impl Chunks<'_> {
    fn drain(&mut self) -> io::Result<()> {
        while !self.fill_buf()?.is_empty() {
            self.at = self.chunk.len();
        }
        Ok(())
    }
}

impl BufRead for Chunks<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at >= self.chunk.len() {
            let next = self.filled.recv().unwrap_or_default();
            // A producer that has ended needs no chunk back.
            let _ = self.used.send(std::mem::replace(&mut self.chunk, next));
            self.at = 0;
            (self.progress)(self.position.load(Ordering::Relaxed));
        }
        Ok(self.chunk.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl Read for Chunks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

/// Tells other threads how far a stream has been read.
struct Metered<'a, R> {
    inner: R,
    position: &'a AtomicU64,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.position.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
