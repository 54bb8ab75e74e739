//! An archive's entries in turn, each with its extension headers applied and its data to read.

use std::io::{self, BufRead, Read};

use super::error::{MAX_EXTENSION, TarError};
use super::header::{BLOCK, Header, Kind, Timestamp};
use super::pax::Pax;
use super::sparse::{Segment, SparseMap};

/// One entry; its data, if it has any, is what the reader gives next.
#[derive(Debug)]
pub struct Entry {
    /// As the archive has it; it may say anything.
    pub path: Vec<u8>,
    /// Target of a symbolic or hard link.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with set-id and sticky.
    pub mode: u32,
    /// The owner's number.
    pub uid: u64,
    /// The group's number.
    pub gid: u64,
    /// When it was last changed.
    pub mtime: Timestamp,
    /// Major and minor number of a device.
    pub device: (u64, u64),
    /// Extended attributes: names and values.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The size the file has once unpacked.
    pub size: u64,
    /// A sparse file's parts, whose bytes the archive holds one after the other; `None` if it holds the whole file.
    pub segments: Option<Vec<Segment>>,
}

/// Reads entries from a stream. `read` and `fill_buf` give the data of the current entry, never more.
pub struct TarReader<R> {
    stream: R,
    /// Where the stream is, in bytes from its start.
    offset: u64,
    /// Bytes of the current entry's data not read yet, and of the padding after it.
    remaining: u64,
    padding: u64,
}

impl<R: BufRead> TarReader<R> {
    /// An archive from its beginning.
    pub fn new(stream: R) -> Self {
        TarReader { stream, offset: 0, remaining: 0, padding: 0 }
    }

    /// Where the current entry's data starts, once [`TarReader::next_entry`] has returned it.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes of the current entry's data that are still to be read.
    pub(crate) fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Passes over what is left of the current entry with `skip`, for streams that know a quicker way than reading.
    pub(crate) fn skip_data(&mut self, skip: impl FnOnce(&mut R, u64) -> io::Result<()>) -> io::Result<()> {
        let count = self.remaining + self.padding;
        skip(&mut self.stream, count)?;
        self.offset += count;
        (self.remaining, self.padding) = (0, 0);
        Ok(())
    }

    /// The next entry, or `None` at the end of the archive: a block of zeros, or the end of the stream between two
    /// entries, as GNU tar and container engines take it.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut pax = Pax::default();
        let mut long_path = None;
        let mut long_link = None;
        loop {
            self.skip_data(skip_by_reading)?;
            let at = self.offset;
            let Some(block) = self.read_block()? else { return Ok(None) };
            let header = Header::parse(&block).map_err(|cause| TarError::Header { offset: at, cause })?;
            match header.kind {
                b'L' => long_path = Some(self.read_name(header.size)?),
                b'K' => long_link = Some(self.read_name(header.size)?),
                b'x' | b'X' => {
                    let records = self.read_extension(header.size)?;
                    pax = Pax::parse(&records).map_err(|cause| TarError::Header { offset: at, cause })?;
                }
                // Records for the whole archive: container engines pass over them (they hold git's commit, mostly).
                b'g' => {
                    self.read_extension(header.size)?;
                }
                _ => return self.begin(&block, header, pax, long_path, long_link).map(Some),
            }
        }
    }

    /// Applies the extension headers, and stands the reader before the entry's data.
    fn begin(
        &mut self,
        block: &[u8; BLOCK],
        header: Header,
        pax: Pax,
        long_path: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry, TarError> {
        let path = pax.sparse.name.clone().or(pax.path).or(long_path).unwrap_or(header.path);
        let Some(kind) = Kind::of(header.kind, &path) else {
            return Err(TarError::Kind {
                path: String::from_utf8_lossy(&path).into_owned(),
                flag: header.kind.into(),
            });
        };
        // Only regular files have data, whatever the header's size says (as Go's archive/tar takes it).
        let stored = if kind == Kind::Regular { pax.size.unwrap_or(header.size) } else { 0 };
        let map = match header.kind {
            b'S' => {
                let mut counted = Counted { stream: &mut self.stream, count: 0 };
                let map = SparseMap::read_gnu(block, stored, &mut counted)?;
                self.offset += counted.count;
                self.set_data(stored, stored)?;
                Some(map)
            }
            _ if kind == Kind::Regular => match SparseMap::read_pax(&pax.sparse, stored, &mut self.stream)? {
                Some((map, taken)) => {
                    self.offset += taken;
                    self.set_data(stored - taken, stored)?;
                    Some(map)
                }
                None => {
                    self.set_data(stored, stored)?;
                    None
                }
            },
            _ => None,
        };
        Ok(Entry {
            path,
            link: pax.link.or(long_link).unwrap_or(header.link),
            kind,
            mode: header.mode,
            uid: pax.uid.unwrap_or(header.uid),
            gid: pax.gid.unwrap_or(header.gid),
            mtime: pax.mtime.unwrap_or(Timestamp { seconds: header.mtime, nanoseconds: 0 }),
            device: header.device,
            xattrs: pax.xattrs,
            size: map.as_ref().map_or(stored, |map| map.size),
            segments: map.map(|map| map.segments),
        })
    }

    /// Says that `remaining` bytes of data follow, the end of `size` bytes padded to a block.
    fn set_data(&mut self, remaining: u64, size: u64) -> Result<(), TarError> {
        let padded = size.checked_next_multiple_of(BLOCK as u64);
        let padded = padded.filter(|padded| self.offset.checked_add(*padded).is_some());
        let padded = padded.ok_or(TarError::Header { offset: self.offset, cause: "its size is absurd" })?;
        (self.remaining, self.padding) = (remaining, padded - size);
        Ok(())
    }

    fn read_block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        if self.stream.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        self.stream.read_exact(&mut block)?;
        self.offset += BLOCK as u64;
        Ok((block != [0; BLOCK]).then_some(block))
    }

    fn read_extension(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > MAX_EXTENSION {
            return Err(TarError::Extension(size));
        }
        self.set_data(size, size)?;
        let mut data = Vec::new();
        self.read_to_end(&mut data)?;
        Ok(data)
    }

    /// A name of GNU's extension headers; NUL ends it.
    fn read_name(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        let mut name = self.read_extension(size)?;
        name.truncate(name.iter().position(|&byte| byte == 0).unwrap_or(name.len()));
        Ok(name)
    }
}

impl<R: BufRead> BufRead for TarReader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        let data = self.stream.fill_buf()?;
        if data.is_empty() {
            return Err(truncated());
        }
        let count = usize::try_from(self.remaining).map_or(data.len(), |remaining| remaining.min(data.len()));
        Ok(data.get(..count).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.stream.consume(count);
        self.offset += count as u64;
        self.remaining = self.remaining.saturating_sub(count as u64);
    }
}

impl<R: BufRead> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

/// Passes over bytes of a stream that can only be read.
fn skip_by_reading(stream: &mut impl BufRead, mut count: u64) -> io::Result<()> {
    while count > 0 {
        let available = stream.fill_buf()?.len();
        if available == 0 {
            return Err(truncated());
        }
        let step = usize::try_from(count).map_or(available, |count| count.min(available));
        stream.consume(step);
        count -= step as u64;
    }
    Ok(())
}

fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is truncated")
}

/// Counts the bytes that are read from a stream.
struct Counted<'a, R> {
    stream: &'a mut R,
    count: u64,
}

impl<R: BufRead> BufRead for Counted<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.stream.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.stream.consume(count);
        self.count += count as u64;
    }
}

impl<R: BufRead> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}
