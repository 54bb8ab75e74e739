//! Keeps what libcontainer logs as errors.
//!
//! Its processes pass on only the outermost words of an error ("failed to prepare rootfs"); the cause is in the
//! log. The log is a memory file, so that the clones this process makes add to the one their parent reads.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Read, Seek, Write};

use rustix::fs::{MemfdFlags, memfd_create};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::protocol::MAX_ERROR_LEN;

/// The errors logged so far.
pub(super) struct ErrorLog {
    file: File,
}

impl ErrorLog {
    /// Begins to keep errors; for this process and its clones.
    pub(super) fn install() -> io::Result<Self> {
        let file = File::from(memfd_create("errors", MemfdFlags::CLOEXEC)?);
        // A second subscriber in one process is the only failure, and would be this program's own fault.
        let _ = tracing::subscriber::set_global_default(Collector { file: file.try_clone()? });
        Ok(Self { file })
    }

    /// The first error, which is the innermost.
    pub(super) fn first(&mut self) -> Option<String> {
        let mut text = String::new();
        self.file.rewind().ok()?;
        (&self.file).take(MAX_ERROR_LEN as u64).read_to_string(&mut text).ok()?;
        text.lines().next().map(str::to_owned)
    }
}

struct Collector {
    file: File,
}

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() == Level::ERROR
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let _ = (&self.file).write_all(format!("{}{}\n", line.message, line.fields).as_bytes());
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, ", {name}: {value:?}"),
        };
        debug_assert!(written.is_ok(), "writing to a String does not fail");
    }
}
