//! Tar archives made byte by byte, so that they may be as wrong as a test wants.

/// Collects entries; [`Tarball::finish`] ends the archive.
#[derive(Default)]
pub struct Tarball {
    bytes: Vec<u8>,
}

/// An entry's fields, with sane values for those a test does not care about.
#[derive(Clone, Debug)]
pub struct Item<'a> {
    pub flag: u8,
    pub path: &'a [u8],
    pub link: &'a [u8],
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: u64,
    pub device: (u32, u32),
    pub data: &'a [u8],
    /// Records of an extended header to go before it.
    pub pax: Vec<(&'a str, Vec<u8>)>,
}

impl Default for Item<'_> {
    fn default() -> Self {
        let (path, link, data) = (&b""[..], &b""[..], &b""[..]);
        Item {
            flag: b'0',
            path,
            link,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 1,
            device: (0, 0),
            data,
            pax: Vec::new(),
        }
    }
}

impl Tarball {
    pub fn item(mut self, item: &Item<'_>) -> Self {
        self.add(item);
        self
    }

    pub fn file(self, path: &str, data: &[u8]) -> Self {
        self.item(&Item { path: path.as_bytes(), data, ..Item::default() })
    }

    pub fn directory(self, path: &str) -> Self {
        self.item(&Item { flag: b'5', path: path.as_bytes(), mode: 0o755, ..Item::default() })
    }

    pub fn link(self, flag: u8, path: &str, link: &str) -> Self {
        self.item(&Item { flag, path: path.as_bytes(), link: link.as_bytes(), ..Item::default() })
    }

    /// Two blocks of zeros end an archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }

    pub fn add(&mut self, item: &Item<'_>) {
        let mut pax = item.pax.clone();
        for (key, field) in [("path", item.path), ("linkpath", item.link)] {
            if field.len() > 100 && !pax.iter().any(|(name, _)| *name == key) {
                pax.push((key, field.to_vec()));
            }
        }
        if !pax.is_empty() {
            let records: Vec<u8> = pax.iter().flat_map(|(key, value)| record(key, value)).collect();
            self.block(&Item { flag: b'x', path: b"pax", data: &records, ..Item::default() });
        }
        self.block(item);
    }

    fn block(&mut self, item: &Item<'_>) {
        let mut header = [0; 512];
        let mut put = |at: usize, field: &[u8]| header[at..at + field.len()].copy_from_slice(field);
        put(0, &item.path[..item.path.len().min(100)]);
        put(100, octal(item.mode.into(), 7).as_bytes());
        put(108, &number(item.uid, 8));
        put(116, &number(item.gid, 8));
        put(124, &number(item.data.len() as u64, 12));
        put(136, &number(item.mtime, 12));
        put(148, b"        ");
        put(156, &[item.flag]);
        put(157, &item.link[..item.link.len().min(100)]);
        put(257, b"ustar\x0000");
        put(329, octal(item.device.0.into(), 7).as_bytes());
        put(337, octal(item.device.1.into(), 7).as_bytes());
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..155].copy_from_slice(octal(sum.into(), 7).as_bytes());
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(item.data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }
}

fn octal(value: u64, digits: usize) -> String {
    format!("{value:0digits$o}")
}

/// Octal where it fits, GNU's base-256 where not.
fn number(value: u64, width: usize) -> Vec<u8> {
    let text = octal(value, width - 1);
    if text.len() < width {
        return text.into_bytes();
    }
    let mut field = vec![0; width];
    field[width - 8..].copy_from_slice(&value.to_be_bytes());
    field[0] |= 0x80;
    field
}

/// A record of an extended header: its length counts itself.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    let mut bytes = format!("{length} {key}=").into_bytes();
    bytes.extend_from_slice(value);
    bytes.push(b'\n');
    bytes
}
