//! The file of a saved VM: what it is beside its memory.
//!
//! A header that every version can read, then sections of bytes; numbers are little-endian.
//!
//! ```text
//!  0  "BULKHEAD SAVED" 0 0        16 bytes
//! 16  version                     u32    of what is in the sections; another one's is refused
//! 20  number of sections          u32    at most 64
//! 24  the table: for each its name (16 bytes, padded with zeroes), offset u64, length u64, CRC-32C u32, 0 u32
//!     CRC-32C of all so far       u32
//!     the sections, in the order of the table
//! ```
//!
//! Whoever reads one takes it for a stranger's: every length is checked before it is believed.

use std::ops::Range;

/// Of what the sections of today mean.
pub const STATE_VERSION: u32 = 5;

/// The longest file, in bytes; a VM of 254 vCPUs needs a tenth of it.
pub const MAX_STATE_FILE: usize = 32 << 20;

const MAGIC: [u8; 16] = *b"BULKHEAD SAVED\0\0";
const MAX_SECTIONS: usize = 64;
const NAME: usize = 16;
const TABLE: usize = 24;
const ENTRY: usize = 40;

/// Named sections of bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateFile {
    sections: Vec<(String, Vec<u8>)>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateFileError {
    #[error("it is no saved VM")]
    Foreign,
    #[error("it is of version {0}, and this program reads version {STATE_VERSION}")]
    Version(u32),
    #[error("it is cut short, or its header is damaged")]
    Header,
    #[error("its section {0:?} is damaged")]
    Section(String),
    #[error("it has no section {0:?}")]
    Missing(&'static str),
    #[error(
        "it has more than {MAX_SECTIONS} sections, one of a name longer than {NAME} bytes, or more than {MAX_STATE_FILE} bytes"
    )]
    TooMuch,
}

impl StateFile {
    /// Adds a section, whose name is of at most 16 ASCII characters.
    pub fn add(&mut self, name: &str, bytes: Vec<u8>) {
        self.sections.push((name.to_owned(), bytes));
    }

    pub fn section(&self, name: &'static str) -> Result<&[u8], StateFileError> {
        let found = self.sections.iter().find(|(section, _)| section == name);
        found.map(|(_, bytes)| bytes.as_slice()).ok_or(StateFileError::Missing(name))
    }

    pub fn encode(&self) -> Result<Vec<u8>, StateFileError> {
        let header = TABLE + ENTRY * self.sections.len() + 4;
        let total = self.sections.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() + header;
        let long_name = self.sections.iter().any(|(name, _)| name.len() > NAME);
        if self.sections.len() > MAX_SECTIONS || long_name || total > MAX_STATE_FILE {
            return Err(StateFileError::TooMuch);
        }
        let mut out = Vec::with_capacity(total);
        out.extend(MAGIC);
        out.extend(STATE_VERSION.to_le_bytes());
        out.extend(u32::try_from(self.sections.len()).unwrap_or(u32::MAX).to_le_bytes());
        let mut offset = header;
        for (name, bytes) in &self.sections {
            let mut padded = [0; NAME];
            padded.iter_mut().zip(name.bytes()).for_each(|(byte, letter)| *byte = letter);
            out.extend(padded);
            out.extend((offset as u64).to_le_bytes());
            out.extend((bytes.len() as u64).to_le_bytes());
            out.extend(crc32c::crc32c(bytes).to_le_bytes());
            out.extend([0; 4]);
            offset += bytes.len();
        }
        out.extend(crc32c::crc32c(&out).to_le_bytes());
        self.sections.iter().for_each(|(_, bytes)| out.extend(bytes));
        Ok(out)
    }

    pub fn decode(file: &[u8]) -> Result<Self, StateFileError> {
        if file.get(..NAME) != Some(&MAGIC[..]) {
            return Err(StateFileError::Foreign);
        }
        let version = u32_at(file, 16).ok_or(StateFileError::Header)?;
        if version != STATE_VERSION {
            return Err(StateFileError::Version(version));
        }
        let count = u32_at(file, 20).and_then(|count| usize::try_from(count).ok());
        let count = count.filter(|count| *count <= MAX_SECTIONS).ok_or(StateFileError::Header)?;
        let end = TABLE + ENTRY * count;
        let header = file.get(..end).ok_or(StateFileError::Header)?;
        if u32_at(file, end) != Some(crc32c::crc32c(header)) {
            return Err(StateFileError::Header);
        }
        let entries = header.get(TABLE..).unwrap_or_default().chunks_exact(ENTRY);
        Ok(Self { sections: entries.map(|entry| section(file, entry)).collect::<Result<_, _>>()? })
    }
}

fn section(file: &[u8], entry: &[u8]) -> Result<(String, Vec<u8>), StateFileError> {
    let name: Vec<u8> = entry.iter().take(NAME).copied().take_while(|byte| *byte != 0).collect();
    let name = String::from_utf8(name).map_err(|_| StateFileError::Header)?;
    let range = range(entry).ok_or(StateFileError::Header)?;
    let bytes = file.get(range).ok_or(StateFileError::Header)?;
    if u32_at(entry, 32) != Some(crc32c::crc32c(bytes)) {
        return Err(StateFileError::Section(name));
    }
    Ok((name, bytes.to_vec()))
}

fn range(entry: &[u8]) -> Option<Range<usize>> {
    let field = |at: usize| {
        let bytes = entry.get(at..at + 8)?.try_into().ok()?;
        usize::try_from(u64::from_le_bytes(bytes)).ok()
    };
    let (offset, length) = (field(16)?, field(24)?);
    Some(offset..offset.checked_add(length)?)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> StateFile {
        let mut file = StateFile::default();
        file.add("machine", vec![1, 2, 3]);
        file.add("empty", vec![]);
        file.add("sixteen-letters-", vec![9; 5000]);
        file
    }

    #[test]
    fn what_is_written_is_read() {
        let file = StateFile::decode(&sample().encode().unwrap()).unwrap();
        assert_eq!(file, sample());
        assert_eq!(file.section("machine"), Ok(&[1, 2, 3][..]));
        assert_eq!(file.section("none"), Err(StateFileError::Missing("none")));
    }

    #[test]
    fn what_is_refused_is_refused_for_its_reason() {
        let good = sample().encode().unwrap();
        let change = |at: usize, to: u8| {
            let mut bad = good.clone();
            bad[at] = to;
            StateFile::decode(&bad).unwrap_err()
        };
        assert_eq!(StateFile::decode(b"ELF"), Err(StateFileError::Foreign));
        assert_eq!(change(0, b'b'), StateFileError::Foreign);
        assert_eq!(change(16, 99), StateFileError::Version(99));
        assert_eq!(change(20, 200), StateFileError::Header);
        assert_eq!(change(good.len() - 1, 0), StateFileError::Section("sixteen-letters-".to_owned()));
        assert_eq!(StateFile::decode(&good[..good.len() - 1]), Err(StateFileError::Header));
        let mut long = StateFile::default();
        long.add("seventeen-letters", vec![]);
        assert_eq!(long.encode(), Err(StateFileError::TooMuch));
    }

    proptest! {
        #[test]
        fn no_change_goes_unseen(at in 0usize..5160, to in any::<u8>()) {
            let good = sample().encode().unwrap();
            let mut bad = good.clone();
            let at = at % bad.len();
            bad[at] = to;
            prop_assert!(bad == good || StateFile::decode(&bad).is_err());
        }

        #[test]
        fn nothing_makes_it_fail_otherwise(bytes in proptest::collection::vec(any::<u8>(), 0..300), with_magic: bool) {
            let mut file = if with_magic { MAGIC.to_vec() } else { vec![] };
            file.extend(bytes);
            let _ = StateFile::decode(&file);
        }
    }
}
