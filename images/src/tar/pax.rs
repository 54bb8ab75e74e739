//! Extended header records of the pax format: what the fixed header has no room for.

use super::header::Timestamp;

/// The records that matter, of one extended header.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pax {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) mtime: Option<Timestamp>,
    /// Names with their prefix ("security.capability") and values.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) sparse: PaxSparse,
}

/// GNU tar's records for sparse files, of the formats 0.0, 0.1 and 1.0.
#[derive(Clone, Debug, Default)]
pub(crate) struct PaxSparse {
    pub(crate) major: Option<u64>,
    pub(crate) name: Option<Vec<u8>>,
    pub(crate) real_size: Option<u64>,
    /// Offsets and lengths in turn.
    pub(crate) map: Vec<u64>,
}

impl Pax {
    /// Reads `length key=value\n` records.
    pub(crate) fn parse(mut data: &[u8]) -> Result<Pax, &'static str> {
        let mut pax = Pax::default();
        while !data.is_empty() {
            let (key, value, rest) = split_record(data).ok_or("its extended header is malformed")?;
            pax.take(key, value).ok_or("its extended header holds a malformed value")?;
            data = rest;
        }
        Ok(pax)
    }

    /// Takes one record; `None` if its value is not of the key's form.
    fn take(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            self.xattrs.push((name.to_vec(), value.to_vec()));
            return Some(());
        }
        // "A zero-length value deletes the keyword", says POSIX: the fixed header holds.
        if value.is_empty() {
            return Some(());
        }
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.uid = Some(decimal(value)?),
            b"gid" => self.gid = Some(decimal(value)?),
            b"mtime" => self.mtime = Some(timestamp(value)?),
            b"GNU.sparse.major" => self.sparse.major = Some(decimal(value)?),
            b"GNU.sparse.name" => self.sparse.name = Some(value.to_vec()),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.real_size = Some(decimal(value)?),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.sparse.map.push(decimal(value)?),
            b"GNU.sparse.map" => {
                self.sparse.map = value.split(|&byte| byte == b',').map(decimal).collect::<Option<_>>()?;
            }
            _ => (),
        }
        Some(())
    }
}

/// The first record's key and value, and what follows it. Values are binary: only the stated length ends them.
fn split_record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = data.iter().position(|&byte| byte == b' ')?;
    let length = usize::try_from(decimal(&data[..blank])?).ok()?;
    let (record, rest) = data.split_at_checked(length)?;
    let record = record.get(blank + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], rest))
}

/// Decimal digits and nothing else.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    let digits = text.iter().all(u8::is_ascii_digit).then_some(text)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// `[-]seconds[.fraction]`, rounded down to nanoseconds as GNU tar does.
fn timestamp(text: &[u8]) -> Option<Timestamp> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |&byte| byte == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().map(|digit| u32::from(digit - b'0')).chain(std::iter::repeat(0)).take(9);
    let nanoseconds = digits.fold(0, |value, digit| value * 10 + digit);
    let below_a_nanosecond = fraction.iter().skip(9).any(|&digit| digit != b'0');
    Some(match (negative, nanoseconds + u32::from(negative && below_a_nanosecond)) {
        (false, nanoseconds) => Timestamp { seconds, nanoseconds },
        (true, 0) => Timestamp { seconds: -seconds, nanoseconds: 0 },
        (true, nanoseconds) => Timestamp { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_line_ends() {
        let pax = Pax::parse(b"32 SCHILY.xattr.user.x=a\n9 b=c\nd\n12 uid=70000\n").unwrap_err();
        assert_eq!(pax, "its extended header is malformed");
        let pax = Pax::parse(b"33 SCHILY.xattr.user.x=a\n9 b=c\nd\n13 uid=70000\n").unwrap();
        assert_eq!(pax.xattrs, [(b"user.x".to_vec(), b"a\n9 b=c\nd".to_vec())]);
        assert_eq!(pax.uid, Some(70000));
    }

    #[test]
    fn times_carry_fractions_and_signs() {
        let time = |seconds, nanoseconds| Some(Timestamp { seconds, nanoseconds });
        assert_eq!(timestamp(b"12"), time(12, 0));
        assert_eq!(timestamp(b"12.5"), time(12, 500_000_000));
        assert_eq!(timestamp(b"12.1234567899"), time(12, 123_456_789));
        assert_eq!(timestamp(b"-12"), time(-12, 0));
        assert_eq!(timestamp(b"-12.25"), time(-13, 750_000_000));
        assert_eq!(timestamp(b"-0.9999999999"), time(-1, 0));
        for wrong in [&b""[..], b"-", b"1.x", b"1.2.3", b"99999999999999999999"] {
            assert_eq!(timestamp(wrong), None);
        }
    }
}
