//! Cuts what came into lines, for who wants so many of them, or each with its time.

use jiff::Timestamp;

use super::{Chunk, Stream};

/// Knows for each stream whether its last line has ended.
#[derive(Debug, Default)]
pub struct Lines {
    open: [bool; 2],
}

/// A line, or a part of one that was written apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    pub time: Timestamp,
    pub stream: Stream,
    /// With the line feed if it is the last of its line.
    pub bytes: &'a [u8],
    pub begins_line: bool,
}

impl Lines {
    pub fn cut<'a>(&'a mut self, chunk: &'a Chunk) -> impl Iterator<Item = Piece<'a>> {
        let Self { open: [stdout, stderr] } = self;
        let open = match chunk.stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
        };
        chunk.bytes.split_inclusive(|byte| *byte == b'\n').map(move |bytes| {
            let begins_line = !std::mem::replace(open, !bytes.ends_with(b"\n"));
            Piece { time: chunk.time, stream: chunk.stream, bytes, begins_line }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_two_streams_are_told_apart() {
        let mut lines = Lines::default();
        let mut cut = |stream, text: &str| -> Vec<(String, bool)> {
            let chunk = Chunk { time: Timestamp::UNIX_EPOCH, stream, bytes: text.into() };
            let text = |piece: Piece<'_>| String::from_utf8(piece.bytes.to_vec()).unwrap();
            lines.cut(&chunk).map(|piece| (text(piece), piece.begins_line)).collect()
        };
        let piece = |text: &str, begins: bool| (text.to_owned(), begins);
        assert_eq!(cut(Stream::Stdout, "a\nb"), [piece("a\n", true), piece("b", true)]);
        assert_eq!(cut(Stream::Stderr, "x\n"), [piece("x\n", true)]);
        assert_eq!(cut(Stream::Stdout, "c\n\nd"), [piece("c\n", false), piece("\n", true), piece("d", true)]);
        assert_eq!(cut(Stream::Stdout, "\n"), [piece("\n", false)]);
    }
}
