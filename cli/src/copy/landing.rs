//! Where a source comes to lie: Docker's rules for `cp`.

use super::place::{file_name, parent};

/// What is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// Its last component; `.` for what is in a directory.
    pub name: String,
    pub is_directory: bool,
}

/// A directory that is there, and what the source is called in it; `.`: what is in the source is put into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Landing {
    pub directory: String,
    pub name: String,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum LandingError {
    #[error("cannot copy a directory over the file {0}")]
    DirectoryOnFile(String),
    #[error("{0} is no directory, but named as one by the slash at its end")]
    NoDirectory(String),
    #[error("there is no directory {0} to copy into")]
    Missing(String),
}

/// `is_directory` is what there is at the destination; `None`: nothing.
pub(crate) fn land(
    source: &Source,
    destination: &str,
    is_directory: Option<bool>,
) -> Result<Landing, LandingError> {
    let named_as_directory = destination.ends_with('/') || file_name(destination) == ".";
    match is_directory {
        Some(true) => Ok(Landing { directory: destination.to_owned(), name: source.name.clone() }),
        Some(false) if source.is_directory => Err(LandingError::DirectoryOnFile(destination.to_owned())),
        Some(false) if named_as_directory => Err(LandingError::NoDirectory(destination.to_owned())),
        None if named_as_directory && !source.is_directory => {
            Err(LandingError::Missing(destination.to_owned()))
        }
        Some(false) | None => Ok(Landing {
            directory: parent(destination).to_owned(),
            name: file_name(super::place::without_dots(destination)).to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn landed(
        name: &str,
        source_is_directory: bool,
        to: &str,
        there: Option<bool>,
    ) -> Result<(String, String), LandingError> {
        let source = Source { name: name.to_owned(), is_directory: source_is_directory };
        land(&source, to, there).map(|landing| (landing.directory, landing.name))
    }

    /// The table of `docker cp`'s documentation, line by line.
    #[test]
    fn docker_s_table_holds() {
        let at = |directory: &str, name: &str| Ok((directory.to_owned(), name.to_owned()));
        // A file: saved as, an error, overwritten, put into.
        assert_eq!(landed("f", false, "/d/new", None), at("/d", "new"));
        assert_eq!(landed("f", false, "/d/new/", None), Err(LandingError::Missing("/d/new/".to_owned())));
        assert_eq!(landed("f", false, "/d/old", Some(false)), at("/d", "old"));
        assert_eq!(landed("f", false, "/d", Some(true)), at("/d", "f"));
        // A directory: made, an error, put into, its content put into.
        assert_eq!(landed("s", true, "/d/new", None), at("/d", "new"));
        assert_eq!(landed("s", true, "/d/new/", None), at("/d", "new"));
        assert_eq!(landed(".", true, "/d/new", None), at("/d", "new"));
        assert_eq!(
            landed("s", true, "/d/f", Some(false)),
            Err(LandingError::DirectoryOnFile("/d/f".to_owned()))
        );
        assert_eq!(landed("s", true, "/d", Some(true)), at("/d", "s"));
        assert_eq!(landed(".", true, "/d", Some(true)), at("/d", "."));
        assert_eq!(
            landed("f", false, "/d/f/", Some(false)),
            Err(LandingError::NoDirectory("/d/f/".to_owned()))
        );
        assert_eq!(landed("f", false, "new", None), at(".", "new"));
    }
}
