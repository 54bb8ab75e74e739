//! What a registry says of its refusal: a stranger's text, shortened and made safe to print.

use std::fmt;

use serde::Deserialize;

/// Bytes of a refusal that are looked at.
pub(super) const MAX_REFUSAL: u64 = 64 << 10;
/// Characters of a message that are shown.
const MAX_SHOWN: usize = 300;
/// Errors of a list that are shown.
const MAX_ERRORS: usize = 3;

/// A registry's own words, or none. Displayed, they continue a sentence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message(String);

/// distribution-spec, "Error Codes".
#[derive(Deserialize)]
struct Refusal {
    errors: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    code: Option<String>,
    message: Option<String>,
}

/// What token servers send instead.
#[derive(Deserialize)]
struct Details {
    #[serde(alias = "error_description", alias = "message")]
    details: String,
}

impl Message {
    /// Reads the body of a refusal. A page for people, as proxies send them, is left out.
    pub(super) fn read(body: &[u8]) -> Message {
        if let Ok(refusal) = serde_json::from_slice::<Refusal>(body) {
            let shown = refusal.errors.iter().take(MAX_ERRORS).filter_map(Entry::text);
            return Message(escape(&shown.collect::<Vec<_>>().join("; ")));
        }
        if let Ok(details) = serde_json::from_slice::<Details>(body) {
            return Message(escape(&details.details));
        }
        match std::str::from_utf8(body) {
            Ok(text) if !text.trim_start().starts_with(['<', '{', '[']) => Message(escape(text.trim())),
            _ => Message::default(),
        }
    }

    /// The words; empty if there are none.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl Entry {
    fn text(&self) -> Option<&str> {
        self.message.as_deref().filter(|text| !text.is_empty()).or(self.code.as_deref())
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " (\"{}\")", self.0) }
    }
}

/// Enough of a stranger's text, with nothing in it that moves a terminal's cursor.
pub(super) fn escape(text: &str) -> String {
    let mut characters = text.chars();
    let shown = characters.by_ref().take(MAX_SHOWN);
    let mut escaped: String = shown.flat_map(escape_character).collect();
    if characters.next().is_some() {
        escaped.push('…');
    }
    escaped
}

fn escape_character(character: char) -> impl Iterator<Item = char> {
    // Quotes and backslashes are harmless; control characters, direction marks and the like are what is meant.
    let harmless = matches!(character, '"' | '\'' | '\\');
    let escaped = (!harmless).then(|| character.escape_debug());
    escaped.into_iter().flatten().chain(harmless.then_some(character))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> String {
        Message::read(body.as_bytes()).0
    }

    #[test]
    fn the_known_forms_of_refusal_are_read() {
        let listed =
            r#"{"errors":[{"code":"DENIED","message":"no \"pull\""},{"code":"UNAUTHORIZED","message":""}]}"#;
        assert_eq!(read(listed), "no \"pull\"; UNAUTHORIZED");
        assert_eq!(read(r#"{"details":"incorrect username or password"}"#), "incorrect username or password");
        assert_eq!(read(r#"{"error":"x","error_description":"y"}"#), "y");
        assert_eq!(read("no space left on device\n"), "no space left on device");
        for silent in ["", "<html>502 Bad Gateway</html>", "{\"unknown\":1}", "{\"errors\":[]}", "[1]"] {
            assert_eq!(read(silent), "", "{silent}");
        }
        assert_eq!(Message::read(b"\xff\xfe").0, "");
    }

    #[test]
    fn nothing_in_it_moves_the_cursor_and_it_ends() {
        assert_eq!(read("a\u{1b}[2Jb\r\nc\u{202e}d"), "a\\u{1b}[2Jb\\r\\nc\\u{202e}d");
        let long = read(&"x".repeat(100_000));
        assert_eq!(long.chars().count(), MAX_SHOWN + 1);
    }
}
