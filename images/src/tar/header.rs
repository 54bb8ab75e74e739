//! The 512-byte header block of an entry.

/// Size of a header, and the unit data is padded to.
pub(crate) const BLOCK: usize = 512;

/// A header's fields, before extension headers have their say.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: u8,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) size: u64,
    pub(crate) mtime: i64,
    pub(crate) device: (u64, u64),
}

/// What an entry is, of the kinds a file system has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file with data.
    Regular,
    /// A further name of an entry before it.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// Seconds since 1970, and nanoseconds onwards from there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamp {
    /// Since 1970-01-01 UTC.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

impl Kind {
    /// The kind behind a type flag; `None` for what no file system has. A directory of the oldest archives is a
    /// regular file whose name ends in a slash.
    pub(crate) fn of(flag: u8, path: &[u8]) -> Option<Kind> {
        Some(match flag {
            b'0' | 0 if path.ends_with(b"/") => Kind::Directory,
            b'0' | b'7' | b'S' | 0 => Kind::Regular,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            _ => return None,
        })
    }
}

impl Header {
    /// Reads a block. The error says which field is wrong.
    pub(crate) fn parse(block: &[u8; BLOCK]) -> Result<Header, &'static str> {
        if number(&block[148..156]) != Some(i128::from(checksum(block))) {
            return Err("its checksum is wrong");
        }
        let unsigned = |range: std::ops::Range<usize>, error| {
            number(&block[range]).and_then(|value| u64::try_from(value).ok()).ok_or(error)
        };
        // Both POSIX and GNU archives have "ustar" here; only the former has the name's beginning at 345.
        let has_devices = &block[257..262] == b"ustar";
        let prefix = if &block[257..263] == b"ustar\0" { text(&block[345..500]) } else { b"" };
        let mut path = prefix.to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(text(&block[..100]));
        let kind = block[156];
        let is_device = has_devices && matches!(kind, b'3' | b'4');
        Ok(Header {
            path,
            link: text(&block[157..257]).to_vec(),
            kind,
            mode: (unsigned(100..108, "its mode is not a number")? & 0o7777) as u32,
            uid: unsigned(108..116, "its user id is not a number")?,
            gid: unsigned(116..124, "its group id is not a number")?,
            size: unsigned(124..136, "its size is not a number")?,
            mtime: number(&block[136..148])
                .and_then(|value| i64::try_from(value).ok())
                .ok_or("its time is not a number")?,
            device: match is_device {
                true => (
                    unsigned(329..337, "its device number is not a number")?,
                    unsigned(337..345, "its device number is not a number")?,
                ),
                false => (0, 0),
            },
        })
    }
}

/// A numeric field: octal digits between blanks, or GNU's base-256 (first bit set, two's complement, big-endian).
/// An empty field is zero.
pub(super) fn number(field: &[u8]) -> Option<i128> {
    match field.split_first()? {
        (&first, rest) if first & 0x80 != 0 => {
            // The bit after the marker is the sign.
            let start = i128::from(first & 0x7f) - if first & 0x40 != 0 { 0x80 } else { 0 };
            Some(rest.iter().fold(start, |value, &byte| value << 8 | i128::from(byte)))
        }
        _ => {
            let digits = text(field).trim_ascii();
            digits.iter().try_fold(0, |value, &digit| match digit {
                b'0'..=b'7' => Some(value << 3 | i128::from(digit - b'0')),
                _ => None,
            })
        }
    }
}

/// A text field, up to its first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// The sum of the header's bytes, with its checksum field taken as blanks.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    let sum = |bytes: &[u8]| bytes.iter().map(|&byte| u32::from(byte)).sum::<u32>();
    sum(&block[..148]) + 8 * u32::from(b' ') + sum(&block[156..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_in_octal_and_base_256() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(b"00006x4\0"), None);
        assert_eq!(number(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]), Some(0xffff_ffff));
        assert_eq!(number(&[0xff; 12]), Some(-1));
    }
}
