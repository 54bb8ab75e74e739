//! The two sides of a copy, as the user names them.

/// One side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A path of this machine.
    Here(String),
    /// A path in a container, absolute.
    Inside { container: String, path: String },
    /// `-`: a tar archive on standard input or output.
    Stream,
}

impl Place {
    /// `CONTAINER:PATH`, unless the path is one of this machine for sure: absolute, or beginning with a dot.
    pub(crate) fn parse(text: &str) -> Self {
        if text == "-" {
            return Self::Stream;
        }
        match text.split_once(':') {
            Some((container, path)) if !container.is_empty() && !container.starts_with(['/', '.']) => {
                let slash = if path.starts_with('/') { "" } else { "/" };
                Self::Inside { container: container.to_owned(), path: format!("{slash}{path}") }
            }
            _ => Self::Here(text.to_owned()),
        }
    }
}

/// The last component of a path; `.` where that is the directory itself: `a/.`, `.`, `/`.
pub(crate) fn file_name(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    match path.rsplit_once('/').map_or(path, |(_, name)| name) {
        "" => ".",
        name => name,
    }
}

/// The directory that has the last component of a path.
pub(crate) fn parent(path: &str) -> &str {
    let path = without_dots(path);
    match path.rsplit_once('/') {
        Some(("", _)) => "/",
        Some((parent, _)) => parent,
        None if path.is_empty() => "/",
        None => ".",
    }
}

/// A path without slashes and `/.` at its end.
pub(crate) fn without_dots(mut path: &str) -> &str {
    loop {
        let shorter = path.trim_end_matches('/');
        let shorter = shorter.strip_suffix("/.").unwrap_or(shorter);
        if shorter == path {
            return path;
        }
        path = shorter;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_told_from_paths() {
        let inside =
            |container: &str, path: &str| Place::Inside { container: container.into(), path: path.into() };
        for (text, place) in [
            ("web:/etc", inside("web", "/etc")),
            ("web:etc", inside("web", "/etc")),
            ("web:", inside("web", "/")),
            ("web:/a:b", inside("web", "/a:b")),
            ("./web:a", Place::Here("./web:a".to_owned())),
            ("/web:a", Place::Here("/web:a".to_owned())),
            ("web", Place::Here("web".to_owned())),
            (":x", Place::Here(":x".to_owned())),
            ("-", Place::Stream),
        ] {
            assert_eq!(Place::parse(text), place, "{text}");
        }
    }

    #[test]
    fn paths_are_taken_apart() {
        for (path, name, directory) in [
            ("/a/b", "b", "/a"),
            ("/a/b/", "b", "/a"),
            ("/a", "a", "/"),
            ("a", "a", "."),
            ("a/b", "b", "a"),
            ("/a/.", ".", "/"),
            ("/", ".", "/"),
            (".", ".", "."),
        ] {
            assert_eq!((file_name(path), parent(path)), (name, directory), "{path}");
        }
    }
}
