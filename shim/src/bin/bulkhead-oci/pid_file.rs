//! The file a caller reads a supervisor's pid from: there is none, or there is a whole one.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
#[error("cannot write the pid file {}", path.display())]
pub(crate) struct PidFileError {
    path: PathBuf,
    source: io::Error,
}

pub(crate) fn write(path: &Path, pid: u32) -> Result<(), PidFileError> {
    replace(path, pid).map_err(|source| PidFileError { path: path.to_owned(), source })
}

fn replace(path: &Path, pid: u32) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    let beside = path.with_file_name(beside);
    let mut file = OpenOptions::new().write(true).create_new(true).open(&beside)?;
    file.write_all(pid.to_string().as_bytes())?;
    fs::rename(beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_whole_and_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        write(&path, 7).unwrap();
        write(&path, 42).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "42");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        let told = write(Path::new("/none/such"), 1).unwrap_err().to_string();
        assert_eq!(told, "cannot write the pid file /none/such");
    }
}
