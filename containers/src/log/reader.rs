//! Reads a log from its oldest file on, also while it is written.

use std::fs::File;
use std::io::{self, BufReader, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::frame::{HEADER, decode};
use super::{Chunk, generation};

/// As many as a writer keeps, at most.
const MOST_FILES: u32 = 1000;

const BUFFER: usize = 256 * 1024;

#[derive(Debug)]
pub struct Reader {
    directory: PathBuf,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    source: BufReader<File>,
    inode: u64,
    /// Up to where whole frames were read.
    position: u64,
}

impl Reader {
    /// Of the container whose directory this is.
    pub fn in_directory(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), current: None }
    }

    /// The next chunk; `None` when there is no more for now. What is damaged is passed over up to the next file.
    pub fn next_chunk(&mut self) -> io::Result<Option<Chunk>> {
        loop {
            if let Some(current) = &mut self.current
                && let Some(chunk) = current.next()?
            {
                return Ok(Some(chunk));
            }
            let Some(mut following) = self.following()? else { return Ok(None) };
            // Before it was set aside, more may have been written to the one at hand.
            if let Some(current) = &mut self.current
                && let Some(chunk) = current.next()?
            {
                return Ok(Some(chunk));
            }
            let first = following.next()?;
            self.current = Some(following);
            if first.is_some() {
                return Ok(first);
            }
        }
    }

    /// The file after the one at hand; the oldest when there is none, or it is gone.
    fn following(&self) -> io::Result<Option<Current>> {
        let mut newer = None;
        for number in 0..MOST_FILES {
            let file = match File::open(generation(&self.directory, number)) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            };
            let inode = file.metadata()?.ino();
            if self.current.as_ref().is_some_and(|current| current.inode == inode) {
                return Ok(newer);
            }
            newer = Some(Current { source: BufReader::with_capacity(BUFFER, file), inode, position: 0 });
        }
        Ok(newer)
    }
}

impl Current {
    fn next(&mut self) -> io::Result<Option<Chunk>> {
        let chunk = decode(&mut self.source)?;
        match &chunk {
            Some(chunk) => self.position += (HEADER + chunk.bytes.len()) as u64,
            // It may be whole the next time.
            None => {
                self.source.seek(SeekFrom::Start(self.position))?;
            }
        }
        Ok(chunk)
    }
}
