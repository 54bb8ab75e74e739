//! Sparse files: which parts of a file the archive holds. The rest are holes.

use std::io::{self, BufRead};

use super::error::TarError;
use super::header::{self, BLOCK};
use super::pax::{PaxSparse, decimal};

/// Parts a sparse file may have; each costs 16 bytes of memory.
const MAX_SEGMENTS: usize = 1 << 20;

/// A part of a file that holds data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where in the file it begins, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
}

/// A file's true size and its parts, in order and apart from each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SparseMap {
    pub(crate) size: u64,
    pub(crate) segments: Vec<Segment>,
}

impl SparseMap {
    /// Checks the parts: ascending, within `size`, and as long together as the `stored` bytes.
    fn new(size: u64, segments: Vec<Segment>, stored: u64) -> Result<SparseMap, TarError> {
        let mut end = 0;
        let mut total = 0_u64;
        for segment in &segments {
            if segment.offset < end {
                return Err(TarError::Sparse("parts overlap"));
            }
            end = segment
                .offset
                .checked_add(segment.length)
                .ok_or(TarError::Sparse("a part is too far out"))?;
            total = total.saturating_add(segment.length);
        }
        if end > size {
            return Err(TarError::Sparse("a part lies beyond the end of the file"));
        }
        if total != stored {
            return Err(TarError::Sparse("its parts are not as long as its data"));
        }
        let segments = segments.into_iter().filter(|segment| segment.length > 0).collect();
        Ok(SparseMap { size, segments })
    }

    /// The old GNU format: four parts in the header, more in blocks that follow it.
    pub(super) fn read_gnu(
        block: &[u8; BLOCK],
        stored: u64,
        stream: &mut impl BufRead,
    ) -> Result<SparseMap, TarError> {
        let size = gnu_number(&block[483..495])?;
        let mut segments = Vec::new();
        gnu_segments(&block[386..482], &mut segments)?;
        let mut more = block[482] != 0;
        while more {
            let mut extension = [0; BLOCK];
            stream.read_exact(&mut extension)?;
            gnu_segments(&extension[..504], &mut segments)?;
            more = extension[504] != 0;
        }
        SparseMap::new(size, segments, stored)
    }

    /// The pax formats: 0.0 and 0.1 keep the map in records, 1.0 before the data, which `stream` is at. Also says how
    /// many bytes of the data the map took.
    pub(super) fn read_pax(
        records: &PaxSparse,
        stored: u64,
        stream: &mut impl BufRead,
    ) -> Result<Option<(SparseMap, u64)>, TarError> {
        let Some(size) = records.real_size else { return Ok(None) };
        match records.major {
            Some(1) => {
                let (segments, taken) = read_leading_map(stream, stored)?;
                let map = SparseMap::new(size, segments, stored - taken)?;
                Ok(Some((map, taken)))
            }
            None | Some(0) => {
                let pairs = records.map.chunks_exact(2);
                if !pairs.remainder().is_empty() || pairs.len() > MAX_SEGMENTS {
                    return Err(TarError::Sparse("its map is malformed"));
                }
                let segments = pairs.map(|pair| Segment { offset: pair[0], length: pair[1] }).collect();
                Ok(Some((SparseMap::new(size, segments, stored)?, 0)))
            }
            Some(_) => Err(TarError::Sparse("its format is not known")),
        }
    }
}

/// Adds the parts in 24-byte pairs of offset and length; an empty pair ends them.
fn gnu_segments(pairs: &[u8], segments: &mut Vec<Segment>) -> Result<(), TarError> {
    for pair in pairs.chunks_exact(24) {
        if pair[0] == 0 || pair[12] == 0 {
            break;
        }
        if segments.len() == MAX_SEGMENTS {
            return Err(TarError::Sparse("it has too many parts"));
        }
        segments.push(Segment { offset: gnu_number(&pair[..12])?, length: gnu_number(&pair[12..])? });
    }
    Ok(())
}

fn gnu_number(field: &[u8]) -> Result<u64, TarError> {
    let value = header::number(field).and_then(|value| u64::try_from(value).ok());
    value.ok_or(TarError::Sparse("its map is malformed"))
}

/// The map of format 1.0: decimal numbers each on a line, first how many parts there are, padded to a block.
fn read_leading_map(stream: &mut impl BufRead, stored: u64) -> Result<(Vec<Segment>, u64), TarError> {
    let mut taken = 0;
    let mut next = || -> Result<u64, TarError> {
        let mut digits = Vec::with_capacity(20);
        loop {
            let mut byte = [0];
            if taken == stored || digits.len() > 20 {
                return Err(TarError::Sparse("its map is malformed"));
            }
            stream.read_exact(&mut byte)?;
            taken += 1;
            match byte {
                [b'\n'] => break,
                [digit] => digits.push(digit),
            }
        }
        decimal(&digits).ok_or(TarError::Sparse("its map is malformed"))
    };
    let count = usize::try_from(next()?).unwrap_or(usize::MAX);
    if count > MAX_SEGMENTS {
        return Err(TarError::Sparse("it has too many parts"));
    }
    let mut segments = Vec::new();
    for _ in 0..count {
        segments.push(Segment { offset: next()?, length: next()? });
    }
    let padded = taken.next_multiple_of(BLOCK as u64);
    if padded > stored {
        return Err(TarError::Sparse("its map is malformed"));
    }
    io::copy(&mut io::Read::take(stream, padded - taken), &mut io::sink())?;
    Ok((segments, padded))
}
