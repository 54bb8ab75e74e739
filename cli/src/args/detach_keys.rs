//! `--detach-keys`: what is typed to leave a container with a terminal to itself.

use std::str::FromStr;

/// The bytes the keys send; none: nothing detaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys(pub Vec<u8>);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "write keys with commas between them, each a character or ctrl- and one of a to z, @, [, \\, ], ^, _"
)]
pub(crate) struct DetachKeysError;

impl FromStr for DetachKeys {
    type Err = DetachKeysError;

    fn from_str(text: &str) -> Result<Self, DetachKeysError> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        text.split(',').map(key).collect::<Result<_, _>>().map(Self)
    }
}

fn key(text: &str) -> Result<u8, DetachKeysError> {
    let control = text.strip_prefix("ctrl-");
    match (control, control.unwrap_or(text).as_bytes()) {
        // What a terminal sends for Control and a letter, or one of the signs beside them (ASCII).
        (Some(_), [key @ (b'a'..=b'z' | b'@' | b'['..=b'_')]) => Ok(key & 0x1f),
        (None, [key]) if key.is_ascii_graphic() => Ok(*key),
        _ => Err(DetachKeysError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_bytes_they_send() {
        for (text, bytes) in
            [("ctrl-p,ctrl-q", &[0x10, 0x11][..]), ("ctrl-@,x", &[0, b'x']), ("ctrl-[", &[0x1b]), ("", &[])]
        {
            assert_eq!(text.parse(), Ok(DetachKeys(bytes.to_vec())), "{text}");
        }
        for text in ["ctrl-", "ctrl-pp", "ctrl-A", "pq", ",", "ä"] {
            assert_eq!(text.parse::<DetachKeys>(), Err(DetachKeysError), "{text}");
        }
    }
}
