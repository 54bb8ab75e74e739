//! Text that a guest wrote, made fit for a person's terminal: no escape sequence of a tenant's gets there.

/// The longest message kept, in characters.
const MAX_MESSAGE: usize = 4096;

/// Without carriage returns, and with control characters replaced; lines stay.
pub(crate) fn console(text: &str) -> String {
    text.chars().filter(|c| *c != '\r').map(visible).collect()
}

/// The same for a message, which has a limit besides.
pub(crate) fn message(text: &str) -> String {
    console(text).chars().take(MAX_MESSAGE).collect()
}

fn visible(c: char) -> char {
    if c.is_control() && c != '\n' && c != '\t' { char::REPLACEMENT_CHARACTER } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_lose_their_escape_and_lines_stay_lines() {
        assert_eq!(console("a\r\n\tb\x1b[2J\u{9b}1m"), "a\n\tb\u{fffd}[2J\u{fffd}1m");
    }

    #[test]
    fn a_message_has_a_limit() {
        assert_eq!(message(&"é".repeat(1 << 20)).chars().count(), MAX_MESSAGE);
    }
}
