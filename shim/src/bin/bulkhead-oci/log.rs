//! The file that the caller names for what went wrong. Podman, containerd and CRI-O read errors from it, in runc's form.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use jiff::{Timestamp, Unit};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Log {
    file: Option<PathBuf>,
    format: Format,
}

/// A line, its fields in runc's order.
#[derive(Serialize)]
struct Line<'a> {
    level: &'a str,
    msg: &'a str,
    time: String,
}

impl Log {
    /// Absolute, as a supervisor that writes to it may be elsewhere.
    pub(crate) fn new(file: Option<PathBuf>, format: Format) -> Self {
        let absolute = |file: PathBuf| std::path::absolute(&file).unwrap_or(file);
        Self { file: file.map(absolute), format }
    }

    pub(crate) fn error(&self, message: &str) {
        self.write("error", message);
    }

    pub(crate) fn warning(&self, message: &str) {
        self.write("warning", message);
    }

    fn write(&self, level: &str, msg: &str) {
        let Some(file) = &self.file else { return };
        let line = Line { level, msg, time: now() };
        let text = match self.format {
            Format::Json => serde_json::to_string(&line).unwrap_or_default(),
            Format::Text => format!("time={:?} level={level} msg={msg:?}", line.time),
        };
        // Who named a file that cannot be written has the message on standard error.
        let _ = append(file, &text);
    }
}

/// A single write, so that the lines of several processes do not mix.
fn append(file: &Path, line: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).mode(0o644).open(file)?;
    file.write_all(format!("{line}\n").as_bytes())
}

fn now() -> String {
    let now = Timestamp::now();
    now.round(Unit::Second).unwrap_or(now).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_of_runcs_form() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("log");
        Log::new(Some(file.clone()), Format::Json).error("no \"x\"\nhere");
        Log::new(Some(file.clone()), Format::Text).warning("two");
        let written = std::fs::read_to_string(&file).unwrap();
        let [json, text] = written.lines().collect::<Vec<_>>().try_into().unwrap();
        let parsed: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!((&parsed["level"], &parsed["msg"]), (&"error".into(), &"no \"x\"\nhere".into()));
        assert!(parsed["time"].as_str().unwrap().parse::<Timestamp>().is_ok());
        assert!(text.starts_with("time=\"") && text.ends_with("level=warning msg=\"two\""), "{text}");
    }

    #[test]
    fn a_file_that_cannot_be_written_ends_nothing() {
        Log::new(Some(PathBuf::from("/none/such")), Format::Json).error("lost");
        Log::default().error("nowhere");
    }
}
