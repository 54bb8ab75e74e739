//! Names of images as names of files.
//!
//! `names/REGISTRY/REPOSITORY/TAG`, where `+`, which no name has, stands for the slashes within the repository; a
//! digest stands in a tag's place, and has a colon, as no tag has. None of the parts begins with a dot.

use std::path::{Path, PathBuf};

use crate::name::Name;

/// The file of a name, below the directory of names.
pub(super) fn encode(name: &Name) -> PathBuf {
    [name.registry(), &name.repository().replace('/', "+"), &name.reference()].iter().collect()
}

/// The name a file below the directory of names is for; `None` if it is for none.
pub(super) fn decode(path: &Path) -> Option<Name> {
    let mut parts = path.iter().map(|part| part.to_str());
    let (registry, repository, reference) = (parts.next()??, parts.next()??, parts.next()??);
    let separator = if reference.contains(':') { '@' } else { ':' };
    let text = format!("{registry}/{}{separator}{reference}", repository.replace('+', "/"));
    Name::parse(&text).ok().filter(|name| parts.next().is_none() && encode(name) == path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names() -> impl Strategy<Value = Name> {
        let registry =
            "([a-z0-9]{1,8}\\.){1,3}[a-zA-Z]{1,5}(:[0-9]{1,4})?|localhost(:[0-9]{1,4})?|\\[::1\\]:5000";
        let repository = "[a-z0-9]{1,6}((\\.|_|__|-{1,3}|/)[a-z0-9]{1,6}){0,6}";
        let reference = "(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?|@sha256:[0-9a-f]{64}";
        (registry, repository, reference)
            .prop_map(|(registry, repository, reference)| format!("{registry}/{repository}{reference}"))
            .prop_filter_map("a name", |text| Name::parse(&text).ok())
    }

    proptest! {
        #[test]
        fn every_name_has_a_file_of_its_own_inside_the_directory(one in names(), other in names()) {
            let path = encode(&one);
            prop_assert_eq!(decode(&path), Some(one.clone()));
            prop_assert_eq!(path == encode(&other), one == other);
            for part in path.components() {
                let part = part.as_os_str().to_str().unwrap();
                prop_assert!(!part.starts_with('.') && part.len() <= 255, "{}", part);
            }
            prop_assert_eq!(path.components().count(), 3);
        }

        #[test]
        fn no_file_name_is_taken_for_what_it_is_not(path in "\\PC{0,40}") {
            if let Some(name) = decode(Path::new(&path)) {
                prop_assert_eq!(encode(&name), Path::new(&path));
            }
        }
    }

    #[test]
    fn files_are_where_a_person_would_look() {
        for (name, path) in [
            ("busybox", "docker.io/library+busybox/latest"),
            ("localhost:5000/a/b:v1", "localhost:5000/a+b/v1"),
        ] {
            assert_eq!(encode(&Name::parse(name).unwrap()), Path::new(path));
        }
        assert_eq!(decode(Path::new("docker.io/library+busybox")), None);
        assert_eq!(decode(Path::new(".unfinished-0")), None);
        assert_eq!(decode(Path::new("docker.io/busybox/latest")), None);
    }
}
