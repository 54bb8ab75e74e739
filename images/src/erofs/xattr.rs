//! Extended attributes, each kept inline behind its inode: a header of 12 bytes, then entries padded to 4.

use thiserror::Error;

const HEADER: usize = 12;
const ENTRY: usize = 4;
/// Name prefixes and the numbers that stand for them (`EROFS_XATTR_INDEX_*`).
const PREFIXES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];

/// One attribute of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Xattr {
    prefix: u8,
    /// What follows the prefix.
    name: Box<[u8]>,
    value: Box<[u8]>,
}

/// Why a file's attributes cannot be stored.
#[derive(Debug, Error)]
pub enum XattrError {
    /// An attribute's name or value is longer than Linux allows.
    #[error("extended attribute {0} has a name over 255 bytes or a value over 65535")]
    TooLarge(String),
    /// All of them together take more than an inode can hold.
    #[error("its extended attributes take more than 256 KiB")]
    TooMany,
}

impl Xattr {
    /// An attribute by its full name; `None` for names outside the namespaces Linux has.
    pub(crate) fn new(name: &[u8], value: &[u8]) -> Result<Option<Xattr>, XattrError> {
        let found =
            PREFIXES.iter().find_map(|(text, number)| Some((*number, name.strip_prefix(*text)?, text)));
        let Some((prefix, rest, text)) = found else { return Ok(None) };
        // A prefix that ends in a dot needs something behind it; the access lists are whole names.
        if text.ends_with(b".") == rest.is_empty() {
            return Ok(None);
        }
        if name.len() > 255 || value.len() > usize::from(u16::MAX) {
            return Err(XattrError::TooLarge(String::from_utf8_lossy(name).into_owned()));
        }
        Ok(Some(Xattr { prefix, name: rest.into(), value: value.into() }))
    }

    /// Whether both are the same attribute, whatever its value.
    pub(crate) fn same_name(&self, other: &Xattr) -> bool {
        (self.prefix, &self.name) == (other.prefix, &other.name)
    }

    /// Bytes its entry takes.
    pub(crate) fn size(&self) -> usize {
        (ENTRY + self.name.len() + self.value.len()).next_multiple_of(4)
    }
}

/// Bytes the attributes take behind an inode.
pub(crate) fn body_size(xattrs: &[Xattr]) -> usize {
    match xattrs {
        [] => 0,
        xattrs => HEADER + xattrs.iter().map(Xattr::size).sum::<usize>(),
    }
}

/// The inode field that tells their size: the header counts as one, each 4 bytes of entries as one more.
pub(crate) fn count(xattrs: &[Xattr]) -> Result<u16, XattrError> {
    match body_size(xattrs) {
        0 => Ok(0),
        size => u16::try_from((size - HEADER) / 4 + 1).map_err(|_| XattrError::TooMany),
    }
}

/// The size behind that field, in bytes.
pub(crate) fn size_of_count(count: u16) -> u64 {
    match count {
        0 => 0,
        count => (HEADER + 4 * (usize::from(count) - 1)) as u64,
    }
}

pub(crate) fn encode(xattrs: &[Xattr]) -> Vec<u8> {
    let mut body = Vec::with_capacity(body_size(xattrs));
    if !xattrs.is_empty() {
        // No name filter (the feature is off), no shared attributes.
        body.extend_from_slice(&[0; HEADER]);
    }
    for xattr in xattrs {
        // Lengths were checked when the attribute was made.
        body.extend_from_slice(&[xattr.name.len() as u8, xattr.prefix]);
        body.extend_from_slice(&(xattr.value.len() as u16).to_le_bytes());
        body.extend_from_slice(&xattr.name);
        body.extend_from_slice(&xattr.value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    body
}

/// Reads what [`encode`] wrote; `None` if it is something else.
pub(crate) fn decode(body: &[u8]) -> Option<Vec<Xattr>> {
    let mut xattrs = Vec::new();
    let mut rest = if body.is_empty() { body } else { body.get(HEADER..)? };
    while let Some((&[name_length, prefix, low, high], content)) = rest.split_first_chunk() {
        let (name, content) = content.split_at_checked(name_length.into())?;
        let value = content.get(..u16::from_le_bytes([low, high]).into())?;
        let xattr = Xattr { prefix, name: name.into(), value: value.into() };
        rest = rest.get(xattr.size()..)?;
        xattrs.push(xattr);
    }
    rest.is_empty().then_some(xattrs)
}
