//! The data of regular files: stored while it streams by.

use std::borrow::Cow;
use std::io::{self, BufRead};
use std::rc::Rc;

use super::blocks::BlockWriter;
use super::format::{BLOCK, NULL_BLOCK};
use super::input::Input;

/// The longest file that is kept behind its inode instead of in a block. Of a longer one not even the end is: Linux
/// reads in place (DAX) only what has blocks to its end, and merged images point to blocks, but copy what has none.
const MAX_TAIL: u64 = 2048;
/// Memory such files may take in one image; past it, they get blocks.
const MAX_TAILS: u64 = 64 << 20;

/// Where a regular file's data is.
#[derive(Debug)]
pub(crate) enum Data {
    /// In consecutive blocks, but for an end shorter than one, which may be kept for the inode.
    Flat { size: u64, block: u32, tail: Tail },
    /// In chunks of `BLOCK << bits` bytes, some of which are holes.
    Chunked { size: u64, bits: u16, blocks: Vec<u32> },
}

/// The end of a file that goes behind its inode.
#[derive(Debug)]
pub(crate) enum Tail {
    Held(Box<[u8]>),
    /// Behind the file's inode in another image.
    Elsewhere {
        image: Rc<Input>,
        offset: u64,
        length: u16,
    },
}

impl Tail {
    pub(crate) fn none() -> Tail {
        Tail::Held([].into())
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Tail::Held(bytes) => bytes.len(),
            Tail::Elsewhere { length, .. } => usize::from(*length),
        }
    }

    pub(crate) fn read(&self) -> io::Result<Cow<'_, [u8]>> {
        match self {
            Tail::Held(bytes) => Ok(Cow::Borrowed(bytes)),
            Tail::Elsewhere { image, offset, length } => {
                image.read(*offset, u64::from(*length)).map(Cow::Owned)
            }
        }
    }
}

/// A part of a sparse file that is not a hole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

impl Data {
    pub(crate) fn size(&self) -> u64 {
        match self {
            Data::Flat { size, .. } | Data::Chunked { size, .. } => *size,
        }
    }

    /// Bytes of memory it takes until the image is written.
    pub(crate) fn memory(&self) -> u64 {
        match self {
            Data::Flat { tail: Tail::Held(bytes), .. } => bytes.len() as u64,
            Data::Flat { tail: Tail::Elsewhere { .. }, .. } => 0,
            Data::Chunked { blocks, .. } => 4 * blocks.len() as u64,
        }
    }

    /// Counts its blocks from so many blocks earlier.
    pub(crate) fn shift(&mut self, count: u32) -> io::Result<()> {
        let numbers = match self {
            Data::Flat { block, .. } => std::slice::from_mut(block),
            Data::Chunked { blocks, .. } => blocks.as_mut_slice(),
        };
        for number in numbers.iter_mut().filter(|number| **number != NULL_BLOCK) {
            let shifted = number.checked_add(count).filter(|shifted| *shifted != NULL_BLOCK);
            *number = shifted.ok_or(io::ErrorKind::QuotaExceeded)?;
        }
        Ok(())
    }
}

/// Stores files one after the other.
pub(crate) struct DataWriter {
    tails: u64,
}

impl DataWriter {
    pub(crate) fn new() -> Self {
        DataWriter { tails: 0 }
    }

    /// Stores `size` bytes of `source`. Behind the inode there is room for `room` bytes.
    pub(crate) fn store(
        &mut self,
        blocks: &mut BlockWriter,
        source: &mut impl BufRead,
        size: u64,
        room: u64,
    ) -> io::Result<Data> {
        let block = blocks.block();
        if size > 0 && size <= MAX_TAIL.min(room) && self.tails + size <= MAX_TAILS {
            let mut tail = vec![0; size as usize];
            source.read_exact(&mut tail)?;
            self.tails += size;
            return Ok(Data::Flat { size, block, tail: Tail::Held(tail.into()) });
        }
        copy(blocks, source, size)?;
        blocks.pad()?;
        Ok(Data::Flat { size, block, tail: Tail::none() })
    }

    /// Stores a file of which `source` has only the spans, which ascend and lie within `size`.
    pub(crate) fn store_sparse(
        &mut self,
        blocks: &mut BlockWriter,
        source: &mut impl BufRead,
        size: u64,
        spans: &[Span],
    ) -> io::Result<Data> {
        let bits = chunk_bits(size, spans);
        let chunk = BLOCK << bits;
        let mut table = vec![NULL_BLOCK; size.div_ceil(chunk) as usize];
        for span in spans {
            let mut offset = span.offset;
            let end = span.offset + span.length;
            while offset < end {
                let index = offset / chunk;
                let Some(entry) = table.get_mut(index as usize) else {
                    return Err(io::Error::other("a span lies outside its file"));
                };
                if *entry == NULL_BLOCK {
                    *entry = blocks.block();
                }
                let start = u64::from(*entry) * BLOCK;
                blocks.skip_to(start + offset % chunk)?;
                let count = (end - offset).min(chunk - offset % chunk);
                copy(blocks, source, count)?;
                offset += count;
                // The chunk ends here, or with the file: its rest is zeros, unless the next span begins in it.
                if offset == end {
                    let is_last = spans_after(spans, span).is_none_or(|next| next.offset / chunk != index);
                    if is_last {
                        blocks.skip_to(start + chunk.min((size - index * chunk).next_multiple_of(BLOCK)))?;
                    }
                }
            }
        }
        Ok(Data::Chunked { size, bits, blocks: table })
    }
}

/// The span that follows one of a sorted list.
fn spans_after<'a>(spans: &'a [Span], span: &Span) -> Option<&'a Span> {
    spans.get(spans.partition_point(|other| other.offset <= span.offset))
}

/// The smallest chunks whose table stays in proportion to what the archive holds of the file: a hole of terabytes must
/// not cost a table of its size.
fn chunk_bits(size: u64, spans: &[Span]) -> u16 {
    let stored: u64 = spans.iter().map(|span| span.length / BLOCK + 1).sum();
    let most = 1024 + 8 * stored;
    (0..31).find(|bits| size.div_ceil(BLOCK << bits) <= most).unwrap_or(31)
}

fn copy(blocks: &mut BlockWriter, source: &mut impl BufRead, mut count: u64) -> io::Result<()> {
    while count > 0 {
        let data = source.fill_buf()?;
        let step = usize::try_from(count).map_or(data.len(), |count| count.min(data.len()));
        let Some(piece) = data.get(..step).filter(|piece| !piece.is_empty()) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        blocks.write(piece)?;
        source.consume(step);
        count -= step as u64;
    }
    Ok(())
}
