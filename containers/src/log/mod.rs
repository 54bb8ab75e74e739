//! What a container wrote, kept in its directory: `log`, and before it `log.1` and on.
//!
//! The supervisor's [`Writer`] appends [`Chunk`]s as they come, each in a frame of its own; [`Reader`]s in other
//! processes take them out again, meanwhile too. A file that has grown to its limit is set aside, and the oldest
//! forgotten, so that no container fills the disk by writing.

mod frame;
mod lines;
mod reader;
mod writer;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use lines::{Lines, Piece};
pub use reader::Reader;
pub(crate) use writer::Writer;

/// What is kept of a container's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogOptions {
    /// Whether anything is.
    pub kept: bool,
    /// Of one file, in bytes.
    pub max_size: u64,
    /// At least 1.
    pub max_files: u32,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { kept: true, max_size: 50 << 20, max_files: 2 }
    }
}

impl LogOptions {
    /// How many bytes of output fit a file at most, but for files that are hardly of any size.
    fn longest_chunk(&self) -> usize {
        const LEAST: usize = 64;
        let room = usize::try_from(self.max_size).unwrap_or(usize::MAX).saturating_sub(frame::HEADER);
        room.clamp(LEAST, frame::MAX_CHUNK)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// Bytes that came at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    pub time: Timestamp,
    pub stream: Stream,
    pub bytes: Vec<u8>,
}

/// The file that is written to, for 0; those set aside, for 1 and on.
fn generation(directory: &Path, number: u32) -> PathBuf {
    match number {
        0 => directory.join("log"),
        _ => directory.join(format!("log.{number}")),
    }
}
