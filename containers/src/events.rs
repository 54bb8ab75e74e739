//! What happens to containers, for whoever follows: lines of JSON in a file of the state directory.
//!
//! Whoever does something appends its line in one write, which no other write gets into. A file that has grown
//! to [`LARGEST`] is set aside, and the one set aside before forgotten.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::container::Container;

const BEFORE: &str = "events.1";

/// How large a file of events grows, in bytes.
const LARGEST: u64 = 4 << 20;

/// Where events are noted and read.
#[derive(Debug, Clone)]
pub struct EventLog {
    directory: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub time: Timestamp,
    /// `container`, so far.
    #[serde(rename = "type")]
    pub kind: String,
    pub action: String,
    pub id: String,
    /// `name`, `image` and the container's labels, and what the action is about.
    pub attributes: BTreeMap<String, String>,
}

/// What happens to a container, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Attach,
    Create,
    Destroy,
    Detach,
    Die,
    ExecCreate,
    ExecStart,
    ExecDie,
    HealthStatus(&'static str),
    Kill,
    Oom,
    Pause,
    Rename,
    Resize,
    Restart,
    Start,
    Stop,
    Unpause,
    /// Of another verb: `copy`, `commit` …
    Other(&'static str),
}

/// Reads events, the oldest that are kept first.
#[derive(Debug)]
pub struct EventReader {
    directory: PathBuf,
    /// The file at hand, which has that inode.
    current: Option<(BufReader<File>, u64)>,
    /// The beginning of a line that was not written to its end.
    line: Vec<u8>,
}

impl EventLog {
    /// The file's name in its directory, for who watches it.
    pub const FILE: &str = "events";

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn reader(&self) -> EventReader {
        EventReader { directory: self.directory.clone(), current: None, line: Vec::new() }
    }

    pub(crate) fn in_directory(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Notes that something happened to a container.
    pub fn note(&self, container: &Container, action: Action, attributes: &[(&str, &str)]) {
        let config = container.config();
        let mut all: BTreeMap<String, String> = config.labels.clone();
        all.insert("name".to_owned(), config.name.clone());
        all.insert("image".to_owned(), config.image.name.clone());
        all.extend(attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let event = Event {
            time: Timestamp::now(),
            kind: "container".to_owned(),
            action: action.name(),
            id: config.id.clone(),
            attributes: all,
        };
        // Nothing is done differently for an event that could not be noted.
        let _ = self.append(&event);
    }

    fn append(&self, event: &Event) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        let path = self.directory.join(Self::FILE);
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        file.write_all(&line)?;
        if file.metadata()?.len() >= LARGEST {
            fs::rename(&path, self.directory.join(BEFORE))?;
        }
        Ok(())
    }
}

impl EventReader {
    /// The next event; `None` when there is no more for now. A line that is none is passed over.
    pub fn next_event(&mut self) -> io::Result<Option<Event>> {
        loop {
            if let Some((file, _)) = &mut self.current {
                file.read_until(b'\n', &mut self.line)?;
                if self.line.ends_with(b"\n") {
                    let line = std::mem::take(&mut self.line);
                    match serde_json::from_slice(&line) {
                        Ok(event) => return Ok(Some(event)),
                        Err(_) => continue,
                    }
                }
            }
            let Some(following) = self.following()? else { return Ok(None) };
            self.line.clear();
            self.current = Some(following);
        }
    }

    /// The file after the one at hand.
    fn following(&self) -> io::Result<Option<(BufReader<File>, u64)>> {
        let at_hand = self.current.as_ref().map(|(_, inode)| *inode);
        let mut newer = None;
        for name in [EventLog::FILE, BEFORE] {
            let file = match File::open(self.directory.join(name)) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let inode = file.metadata()?.ino();
            if at_hand == Some(inode) {
                return Ok(newer);
            }
            newer = Some((BufReader::new(file), inode));
        }
        Ok(newer)
    }
}

impl Action {
    fn name(&self) -> String {
        match self {
            Self::Attach => "attach",
            Self::Create => "create",
            Self::Destroy => "destroy",
            Self::Detach => "detach",
            Self::Die => "die",
            Self::ExecCreate => "exec_create",
            Self::ExecStart => "exec_start",
            Self::ExecDie => "exec_die",
            Self::HealthStatus(state) => return format!("health_status: {state}"),
            Self::Kill => "kill",
            Self::Oom => "oom",
            Self::Pause => "pause",
            Self::Rename => "rename",
            Self::Resize => "resize",
            Self::Restart => "restart",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Unpause => "unpause",
            Self::Other(name) => name,
        }
        .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(log: &EventLog, id: usize, filling: usize) {
        let event = Event {
            time: Timestamp::now(),
            kind: "container".to_owned(),
            action: "die".to_owned(),
            id: id.to_string(),
            attributes: BTreeMap::from([("x".to_owned(), "x".repeat(filling))]),
        };
        log.append(&event).unwrap();
    }

    #[test]
    fn a_reader_goes_on_through_a_file_set_aside_and_past_what_is_no_event() {
        let directory = tempfile::tempdir().unwrap();
        let log = EventLog::in_directory(directory.path());
        let mut reader = log.reader();
        let mut next = || reader.next_event().unwrap().map(|event| event.id);
        assert_eq!(next(), None);
        note(&log, 1, 0);
        let path = directory.path().join(EventLog::FILE);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"no event\n").unwrap();
        assert_eq!((next(), next()), (Some("1".to_owned()), None));
        note(&log, 2, LARGEST as usize);
        assert!(!path.exists(), "not set aside");
        note(&log, 3, 0);
        assert_eq!((next(), next(), next()), (Some("2".to_owned()), Some("3".to_owned()), None));
    }
}
