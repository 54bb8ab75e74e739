//! A snapshot as a tar archive, whose holes are holes (GNU's sparse format). What is read is a stranger's.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use containers::About;

const ABOUT: &str = "about.json";
/// All there may be in one.
const FILES: [&str; 4] = [ABOUT, "state", "memory", "disk"];

/// The largest description, in bytes.
const MAX_ABOUT: u64 = 4 << 20;

/// The largest of the other files, in bytes, holes and all.
const MAX_FILE: u64 = 16 << 40;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    #[error("cannot read it")]
    Read(#[source] io::Error),
    #[error("it is no snapshot: it has {0:?} in it")]
    Foreign(String),
    #[error("its {0} is too large")]
    TooLarge(&'static str),
    #[error("cannot write its {0}")]
    Write(&'static str, #[source] io::Error),
    #[error("it has no {0}")]
    Missing(&'static str),
    #[error("its description makes no sense")]
    About(#[source] io::Error),
}

/// Writes the files in `directory`; gives back what it wrote to.
pub(crate) fn write<W: Write>(directory: &Path, to: W) -> io::Result<W> {
    let mut archive = tar::Builder::new(to);
    for name in FILES {
        match File::open(directory.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            file => archive.append_file(name, &mut file?)?,
        }
    }
    archive.into_inner()
}

/// Reads files into an empty `directory`; gives the description.
pub(crate) fn read(from: impl Read, directory: &Path) -> Result<About, ImportError> {
    let mut archive = tar::Archive::new(BufReader::new(from));
    let mut about = None;
    let mut seen = Vec::new();
    for entry in archive.entries().map_err(ImportError::Read)? {
        let mut entry = entry.map_err(ImportError::Read)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = FILES.into_iter().find(|name| *name == path).filter(|name| !seen.contains(name));
        let Some(name) = name else { return Err(ImportError::Foreign(path)) };
        seen.push(name);
        if entry.size() > if name == ABOUT { MAX_ABOUT } else { MAX_FILE } {
            return Err(ImportError::TooLarge(name));
        }
        if name == ABOUT {
            about =
                Some(serde_json::from_reader(&mut entry).map_err(|error| ImportError::About(error.into()))?);
        } else {
            write_sparse(&mut entry, &directory.join(name))
                .map_err(|error| ImportError::Write(name, error))?;
        }
    }
    for needed in ["state", "memory"] {
        if !seen.contains(&needed) {
            return Err(ImportError::Missing(needed));
        }
    }
    about.ok_or(ImportError::Missing(ABOUT))
}

/// What is zero becomes a hole.
fn write_sparse(from: &mut impl Read, path: &Path) -> io::Result<()> {
    const BLOCK: usize = 64 << 10;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut length = 0;
    let mut block = Vec::with_capacity(BLOCK);
    loop {
        block.clear();
        let read = from.by_ref().take(BLOCK as u64).read_to_end(&mut block)?;
        if read == 0 {
            return file.set_len(length);
        }
        length += read as u64;
        if block.iter().all(|byte| *byte == 0) {
            file.seek(SeekFrom::Start(length))?;
        } else {
            file.write_all(&block)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    fn archive_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o600);
            archive.append_data(&mut header, name, *content).unwrap();
        }
        archive.into_inner().unwrap()
    }

    fn refusal(files: &[(&str, &[u8])]) -> String {
        let directory = tempfile::tempdir().unwrap();
        read(archive_of(files).as_slice(), directory.path()).unwrap_err().to_string()
    }

    #[test]
    fn files_and_their_holes_come_back() {
        let [from, to] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        fs::write(from.path().join("state"), "registers").unwrap();
        let memory = File::create(from.path().join("memory")).unwrap();
        memory.set_len(64 << 20).unwrap();
        memory.write_all_at(b"here", 33 << 20).unwrap();
        let archive = write(from.path(), Vec::new()).unwrap();
        assert!(archive.len() < 2 << 20, "{}", archive.len());
        // Without a description it is none, but the files are there.
        let error = read(archive.as_slice(), to.path()).unwrap_err();
        assert!(matches!(error, ImportError::Missing(ABOUT)), "{error}");
        assert_eq!(fs::read(to.path().join("state")).unwrap(), b"registers");
        let memory = fs::read(to.path().join("memory")).unwrap();
        assert!(memory.len() == 64 << 20 && &memory[33 << 20..][..4] == b"here");
        assert!(fs::metadata(to.path().join("memory")).unwrap().blocks() * 512 < 2 << 20);
    }

    #[test]
    fn what_is_no_snapshot_is_refused() {
        for foreign in ["x/state", "other", "about.json/x"] {
            assert!(refusal(&[(foreign, b"")]).contains("no snapshot"), "{foreign}");
        }
        assert!(refusal(&[("state", b""), ("state", b"")]).contains("no snapshot"));
        assert_eq!(refusal(&[("state", b"")]), "it has no memory");
        assert_eq!(refusal(&[("about.json", b"{}")]), "its description makes no sense");
    }
}
