//! Labels and annotations: `NAME=VALUE`, or a name alone.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    pub name: String,
    pub value: String,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot read the labels in {}", path.display())]
pub(crate) struct LabelFileError {
    path: PathBuf,
    source: io::Error,
}

impl FromStr for Label {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

/// Reads a file with a label on each line; `#` begins a comment.
pub(crate) fn read_file(path: &Path) -> Result<Vec<Label>, LabelFileError> {
    let text = fs::read_to_string(path).map_err(|source| LabelFileError { path: path.to_owned(), source })?;
    let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.flat_map(Label::from_str).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_label_on_each_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "# of the team\na=1=2\n\n  b\n").unwrap();
        let label = |name: &str, value: &str| Label { name: name.to_owned(), value: value.to_owned() };
        assert_eq!(read_file(file.path()).unwrap(), [label("a", "1=2"), label("b", "")]);
        assert!(read_file(Path::new("/no/such/file")).is_err());
    }
}
