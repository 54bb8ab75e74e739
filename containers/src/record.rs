//! Small files of JSON that are replaced as a whole: a reader sees the one before or the one after.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Writes `value` to the file `name` in `directory`, for which the caller has a lock. `kept`: it is to survive
/// a crash of the machine as well.
pub(crate) fn write(directory: &Path, name: &str, value: &impl Serialize, kept: bool) -> io::Result<()> {
    let new = directory.join(format!("{name}.new"));
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    if kept {
        file.sync_data()?;
    }
    fs::rename(&new, directory.join(name))
}

pub(crate) fn read<T: DeserializeOwned>(directory: &Path, name: &str) -> io::Result<T> {
    Ok(serde_json::from_slice(&fs::read(directory.join(name))?)?)
}
