//! How a user names an image: a path, and a tag where the path holds several.

use std::fmt;
use std::path::{Path, PathBuf};

/// A directory or an archive, and which of its images is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageReference {
    path: PathBuf,
    tag: Option<String>,
}

impl ImageReference {
    /// Reads `PATH[:TAG]`. Both may hold colons, so the disk decides: a path that exists whole is taken whole, else
    /// the shortest one before a colon that exists. Where none exists, opening the image will say so.
    pub fn parse(text: &str) -> Self {
        let whole = ImageReference { path: text.into(), tag: None };
        if whole.path.exists() {
            return whole;
        }
        text.match_indices(':')
            .map(|(colon, _)| (&text[..colon], &text[colon + 1..]))
            .find(|(path, tag)| !tag.is_empty() && Path::new(path).exists())
            .map_or(whole, |(path, tag)| ImageReference { path: path.into(), tag: Some(tag.to_owned()) })
    }

    /// All of what is at `path`.
    pub(crate) fn whole(path: &Path) -> Self {
        ImageReference { path: path.to_owned(), tag: None }
    }

    /// The layout directory or archive file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tag asked for, if one was.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tag {
            Some(tag) => write!(f, "{}:{tag}", self.path.display()),
            None => self.path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exists_on_disk_decides_where_the_tag_starts() {
        let dir = tempfile::tempdir().unwrap();
        let name = |file: &str| dir.path().join(file).to_str().unwrap().to_owned();
        for file in ["image.tar", "odd:name.tar"] {
            std::fs::write(name(file), "").unwrap();
        }
        for (text, path, tag) in [
            ("image.tar", "image.tar", None),
            ("image.tar:latest", "image.tar", Some("latest")),
            ("image.tar:busybox:1.36", "image.tar", Some("busybox:1.36")),
            ("odd:name.tar", "odd:name.tar", None),
            ("odd:name.tar:v1", "odd:name.tar", Some("v1")),
            ("missing.tar:v1", "missing.tar:v1", None),
        ] {
            let reference = ImageReference::parse(&name(text));
            assert_eq!(reference.path(), Path::new(&name(path)), "{text}");
            assert_eq!(reference.tag(), tag, "{text}");
        }
    }
}
