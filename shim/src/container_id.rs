//! The ids that callers give containers. They become names of files, so what they are made of matters.

/// The longest name a directory can have (NAME_MAX), in bytes.
const MAX: usize = 255;

/// In the words of runc, by which its callers know them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("container id cannot be empty")]
    Empty,
    #[error("invalid container ID format")]
    Malformed,
}

/// As runc has it: letters and digits of ASCII, `_`, `+`, `-` and `.`, and not the name of a directory's parent or itself.
pub fn check_id(id: &str) -> Result<(), IdError> {
    if id.is_empty() {
        return Err(IdError::Empty);
    }
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
    if id.len() > MAX || id == "." || id == ".." || !id.bytes().all(known) {
        return Err(IdError::Malformed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_out_of_a_directory_is_no_id() {
        for id in ["web", "a.b", "a+b_c-d", "0", "buildah-buildah123", &"f".repeat(MAX)] {
            assert_eq!(check_id(id), Ok(()), "{id}");
        }
        assert_eq!(check_id(""), Err(IdError::Empty));
        for id in [".", "..", "a/b", "../a", "/", "a b", "a\n", "é", "a\0", &"f".repeat(MAX + 1)] {
            assert_eq!(check_id(id), Err(IdError::Malformed), "{id}");
        }
    }
}
