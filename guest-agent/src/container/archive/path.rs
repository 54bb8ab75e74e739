//! Paths as people give them: cleaned without looking at the files, as Docker does before it looks.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// A path in a container, absolute and clean.
pub(super) struct Target {
    /// Without "." and "..".
    pub path: PathBuf,
    /// What an archive of it is called: "." for the root and a path that ends in "/.".
    pub name: OsString,
    /// Whether it can only mean a directory, because it ends in "/" or "/.".
    pub directory: bool,
}

impl Target {
    pub(super) fn new(path: &str) -> Self {
        let clean = clean(Path::new(path)).unwrap_or_else(|| lexical(Path::new(path)));
        let contents = path.ends_with("/.") || path == "." || path.is_empty();
        let name = clean.file_name().filter(|_| !contents).map_or_else(|| ".".into(), OsString::from);
        let directory = contents || path.ends_with('/') || clean.file_name().is_none();
        Self { path: Path::new("/").join(clean), name, directory }
    }
}

/// The path without its root, "." and doubled slashes; `None` if it has a "..".
pub(super) fn clean(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(clean)
}

/// The same, with each ".." taking away what is before it.
fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_mean_what_docker_takes_them_for() {
        let cases = [
            ("/", "/", ".", true),
            ("", "/", ".", true),
            ("/etc", "/etc", "etc", false),
            ("etc/", "/etc", "etc", true),
            ("/etc/.", "/etc", ".", true),
            ("/a/../../etc//passwd", "/etc/passwd", "passwd", false),
            ("/..", "/", ".", true),
        ];
        for (given, path, name, directory) in cases {
            let target = Target::new(given);
            let found = (target.path.to_str(), target.name.to_str(), target.directory);
            assert_eq!(found, (Some(path), Some(name), directory), "{given:?}");
        }
    }

    #[test]
    fn names_in_archives_that_climb_are_none() {
        assert_eq!(clean(Path::new("./a//b/")), Some("a/b".into()));
        assert_eq!(clean(Path::new("/etc/passwd")), Some("etc/passwd".into()));
        assert_eq!(clean(Path::new("a/../b")), None);
        assert_eq!(clean(Path::new("..")), None);
    }
}
