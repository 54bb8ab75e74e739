//! Appends to a log, and sets files aside that are full.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::frame::{HEADER, decode, encode};
use super::{LogOptions, Stream, generation};

/// Files set aside that are looked for at most.
const MOST_FILES: u32 = 1000;

#[derive(Debug)]
pub(crate) struct Writer {
    directory: PathBuf,
    options: LogOptions,
    file: File,
    length: u64,
    frame: Vec<u8>,
}

impl Writer {
    /// Goes on with the log in `directory`; what a crash left unfinished at its end is cut off.
    pub(crate) fn open(directory: &Path, options: LogOptions) -> io::Result<Self> {
        let file = open(&generation(directory, 0))?;
        let length = intact(&file)?;
        file.set_len(length)?;
        Ok(Self { directory: directory.to_owned(), options, file, length, frame: Vec::new() })
    }

    /// Appends what came at `time`.
    pub(crate) fn append(&mut self, time: Timestamp, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        if !self.options.kept {
            return Ok(());
        }
        for bytes in bytes.chunks(self.options.longest_chunk()) {
            if self.length > 0 && self.length + (HEADER + bytes.len()) as u64 > self.options.max_size {
                self.set_aside()?;
            }
            self.frame.clear();
            encode(time, stream, bytes, &mut self.frame);
            if let Err(error) = self.file.write_all(&self.frame) {
                // Half a frame would hide what comes after it.
                self.file.set_len(self.length)?;
                return Err(error);
            }
            self.length += self.frame.len() as u64;
        }
        Ok(())
    }

    fn set_aside(&mut self) -> io::Result<()> {
        let kept = self.options.max_files.clamp(1, MOST_FILES);
        for number in (1..kept).rev() {
            match fs::rename(generation(&self.directory, number - 1), generation(&self.directory, number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if kept == 1 {
            fs::remove_file(generation(&self.directory, 0))?;
        }
        self.file = open(&generation(&self.directory, 0))?;
        self.length = 0;
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

/// How many bytes at the beginning are whole frames.
fn intact(file: &File) -> io::Result<u64> {
    let mut source = BufReader::with_capacity(256 * 1024, file);
    let mut length = 0;
    while let Some(chunk) = decode(&mut source)? {
        length += (HEADER + chunk.bytes.len()) as u64;
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::super::{Chunk, Reader};
    use super::*;

    fn read(directory: &Path) -> Vec<String> {
        let mut reader = Reader::in_directory(directory);
        let mut texts = Vec::new();
        while let Some(Chunk { bytes, .. }) = reader.next_chunk().unwrap() {
            texts.push(String::from_utf8(bytes).unwrap());
        }
        texts
    }

    fn append(writer: &mut Writer, text: &str) {
        writer.append(Timestamp::now(), Stream::Stdout, text.as_bytes()).unwrap();
    }

    #[test]
    fn what_a_crash_left_half_written_does_not_hide_what_follows() {
        let directory = tempfile::tempdir().unwrap();
        append(&mut Writer::open(directory.path(), LogOptions::default()).unwrap(), "before");
        let mut log = OpenOptions::new().append(true).open(directory.path().join("log")).unwrap();
        log.write_all(b"half a frame, or any other thing at all").unwrap();
        assert_eq!(read(directory.path()), ["before"]);
        append(&mut Writer::open(directory.path(), LogOptions::default()).unwrap(), "after");
        assert_eq!(read(directory.path()), ["before", "after"]);
    }

    #[test]
    fn a_log_takes_no_more_room_than_its_files_may() {
        let directory = tempfile::tempdir().unwrap();
        for (max_files, expected) in [(1, vec!["e"]), (3, vec!["c", "d", "e"])] {
            let options = LogOptions { kept: true, max_size: 200, max_files };
            let mut writer = Writer::open(directory.path(), options).unwrap();
            for letter in ["a", "b", "c", "d", "e"] {
                append(&mut writer, &letter.repeat(150));
            }
            let expected: Vec<_> = expected.into_iter().map(|letter| letter.repeat(150)).collect();
            assert_eq!(read(directory.path()), expected);
        }
    }

    #[test]
    fn what_is_longer_than_a_file_may_be_is_spread_over_several() {
        let directory = tempfile::tempdir().unwrap();
        let options = LogOptions { kept: true, max_size: 200, max_files: 2 };
        append(&mut Writer::open(directory.path(), options).unwrap(), &"x".repeat(1000));
        assert_eq!(read(directory.path()), ["x".repeat(180), "x".repeat(1000 % 180)]);
    }

    #[test]
    fn a_reader_goes_on_through_files_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        let options = LogOptions { kept: true, max_size: 200, max_files: 3 };
        let mut writer = Writer::open(directory.path(), options).unwrap();
        let mut reader = Reader::in_directory(directory.path());
        let mut next = || reader.next_chunk().unwrap().map(|chunk| chunk.bytes.len());
        append(&mut writer, &"a".repeat(101));
        assert_eq!((next(), next()), (Some(101), None));
        append(&mut writer, &"b".repeat(102));
        append(&mut writer, &"c".repeat(103));
        assert_eq!((next(), next(), next()), (Some(102), Some(103), None));
    }

    #[test]
    fn nothing_is_kept_where_nothing_is_wanted() {
        let directory = tempfile::tempdir().unwrap();
        let options = LogOptions { kept: false, ..LogOptions::default() };
        append(&mut Writer::open(directory.path(), options).unwrap(), "x");
        assert!(read(directory.path()).is_empty());
    }
}
