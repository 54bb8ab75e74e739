//! `--env` and `--env-file`: variables for the container.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The longest environment file read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// What a user says of one variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Variable {
    Set {
        name: String,
        value: String,
    },
    /// Taken from the environment Bulkhead runs in.
    Inherited {
        name: String,
    },
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a variable needs a name before its =")]
pub(crate) struct VariableError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvFileError {
    #[error("cannot read the environment file {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the environment file {} is longer than 1 MiB or not text in UTF-8", path.display())]
    NotText { path: PathBuf },
    #[error("the environment file {}, line {line}: {problem}", path.display())]
    Line { path: PathBuf, line: usize, problem: &'static str },
}

impl FromStr for Variable {
    type Err = VariableError;

    fn from_str(text: &str) -> Result<Self, VariableError> {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let name = name.to_owned();
        match value {
            _ if name.is_empty() => Err(VariableError),
            Some(value) => Ok(Self::Set { name, value: value.to_owned() }),
            None => Ok(Self::Inherited { name }),
        }
    }
}

/// Reads a file with a variable on each line; `#` begins a comment, values are taken as they stand.
pub(crate) fn read_file(path: &Path) -> Result<Vec<Variable>, EnvFileError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(|source| EnvFileError::Read { path: path.to_owned(), source })?;
    let text = std::str::from_utf8(&bytes)
        .ok()
        .filter(|text| text.len() as u64 <= MAX_FILE)
        .ok_or_else(|| EnvFileError::NotText { path: path.to_owned() })?;
    parse_file(text).map_err(|(line, problem)| EnvFileError::Line { path: path.to_owned(), line, problem })
}

fn parse_file(text: &str) -> Result<Vec<Variable>, (usize, &'static str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut variables = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let variable: Variable = line.parse().map_err(|_| (index + 1, "no name before the ="))?;
        let (Variable::Set { name, .. } | Variable::Inherited { name }) = &variable;
        if name.contains(char::is_whitespace) {
            return Err((index + 1, "white space in the variable's name"));
        }
        variables.push(variable);
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(name: &str, value: &str) -> Variable {
        Variable::Set { name: name.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn a_value_may_hold_anything() {
        assert_eq!("A=b=c d".parse(), Ok(set("A", "b=c d")));
        assert_eq!("A=".parse(), Ok(set("A", "")));
        assert_eq!("A".parse(), Ok(Variable::Inherited { name: "A".to_owned() }));
        assert_eq!("=b".parse::<Variable>(), Err(VariableError));
        assert_eq!("".parse::<Variable>(), Err(VariableError));
    }

    #[test]
    fn files_have_comments_and_blank_lines() {
        let text = "\u{feff}# first\n\n  A=1\nB = is refused";
        assert_eq!(parse_file(text), Err((4, "white space in the variable's name")));
        let text = "A=1 \r\n  # note\nB=\"quoted\"\nC\n";
        let inherited = Variable::Inherited { name: "C".to_owned() };
        assert_eq!(parse_file(text), Ok(vec![set("A", "1 "), set("B", "\"quoted\""), inherited]));
        assert_eq!(parse_file("=1"), Err((1, "no name before the =")));
    }

    #[test]
    fn a_file_that_never_ends_is_not_read_to_its_end() {
        assert!(matches!(read_file(Path::new("/dev/zero")), Err(EnvFileError::NotText { .. })));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(pairs in prop::collection::vec(("[A-Za-z_][A-Za-z0-9_]{0,8}", "[^\r\n]{0,16}"), 0..8)) {
            let text: String = pairs.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
            let expected: Vec<Variable> = pairs.iter().map(|(name, value)| set(name, value)).collect();
            prop_assert_eq!(parse_file(&text), Ok(expected));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            let _ = parse_file(&text);
        }
    }
}
