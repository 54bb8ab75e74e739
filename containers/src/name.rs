//! Names of containers, by Docker's rules.

/// The longest, in bytes.
const MAX_NAME: usize = 128;

/// Letters, digits, `_`, `.` and `-`, a letter or digit first, and more than one of them.
pub(crate) fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    (2..=MAX_NAME).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dockers() {
        for name in ["web", "a1", "0_b.c-d", &"x".repeat(128)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "a", "-a", ".ab", "_ab", "a b", "a/b", "ä1", "..", &"x".repeat(129)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
