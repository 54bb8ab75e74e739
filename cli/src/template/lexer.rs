//! Cuts a template into text and actions, and an action into tokens.

use serde_json::Value;

use super::{Position, TemplateError};

/// Text, or what stands between `{{` and `}}`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    Text(String),
    Action { tokens: Vec<(Token, Position)>, at: Position },
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A keyword or a function.
    Word(String),
    /// `.Name`; `attached` when it follows what stands before it without a space.
    Field {
        name: String,
        attached: bool,
    },
    /// A lone `.`.
    Dot,
    /// `$name`, without the `$`.
    Variable(String),
    Literal(Value),
    Pipe,
    Comma,
    Open,
    Close,
    /// `:=`
    Declare,
    /// `=`
    Assign,
}

pub(super) fn lex(template: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut cursor = Cursor { rest: template, position: Position { line: 1, column: 1 } };
    let mut trim_next = false;
    loop {
        let (text, found) = match cursor.rest.split_once("{{") {
            Some((text, _)) => (text, true),
            None => (cursor.rest, false),
        };
        let trim_end = found && cursor.rest.get(text.len() + 2..).is_some_and(trims_before);
        let mut shown = text;
        if trim_next {
            shown = shown.trim_start_matches(is_space);
        }
        if trim_end {
            shown = shown.trim_end_matches(is_space);
        }
        if !shown.is_empty() {
            pieces.push(Piece::Text(shown.to_owned()));
        }
        cursor.skip(text.len());
        if !found {
            return Ok(pieces);
        }
        let at = cursor.position;
        cursor.skip(if trim_end { 3 } else { 2 });
        trim_next = match comment(&mut cursor, at)? {
            Some(trims) => trims,
            None => {
                let (tokens, trims) = action(&mut cursor, at)?;
                pieces.push(Piece::Action { tokens, at });
                trims
            }
        };
    }
}

/// After `{{`: `- ` takes the space before the action away.
fn trims_before(action: &str) -> bool {
    action.strip_prefix('-').is_some_and(|rest| rest.starts_with(is_space))
}

/// Passes over `/* … */}}`; whether the space after it is taken away.
fn comment(cursor: &mut Cursor<'_>, at: Position) -> Result<Option<bool>, TemplateError> {
    let inside = cursor.rest.trim_start_matches(is_space);
    if !inside.starts_with("/*") {
        return Ok(None);
    }
    let unclosed = || TemplateError::new(at, "the comment is not closed by */}}");
    let (comment, after) = inside.split_once("*/").ok_or_else(unclosed)?;
    let space = after.len() - after.trim_start_matches(is_space).len();
    let closing = after.get(space..).unwrap_or_default();
    let (trims, length) = match closing {
        _ if closing.starts_with("}}") => (false, 2),
        _ if space > 0 && closing.starts_with("-}}") => (true, 3),
        _ => return Err(unclosed()),
    };
    let before = cursor.rest.len() - inside.len();
    cursor.skip(before + comment.len() + 2 + space + length);
    Ok(Some(trims))
}

type Tokens = Vec<(Token, Position)>;

/// The tokens up to `}}`, and whether the space after it is taken away.
fn action(cursor: &mut Cursor<'_>, at: Position) -> Result<(Tokens, bool), TemplateError> {
    let mut tokens = Vec::new();
    // Whether the token before ends right here.
    let mut attached = false;
    loop {
        let space = cursor.rest.len() - cursor.rest.trim_start_matches(is_space).len();
        cursor.skip(space);
        attached &= space == 0;
        if cursor.rest.starts_with("}}") {
            cursor.skip(2);
            return Ok((tokens, false));
        }
        if (space > 0 || tokens.is_empty()) && cursor.rest.starts_with("-}}") {
            cursor.skip(3);
            return Ok((tokens, true));
        }
        if cursor.rest.is_empty() {
            return Err(TemplateError::new(at, "{{ is not closed by }}"));
        }
        let position = cursor.position;
        tokens.push((token(cursor, attached)?, position));
        attached = true;
    }
}

fn token(cursor: &mut Cursor<'_>, attached: bool) -> Result<Token, TemplateError> {
    let at = cursor.position;
    let rest = cursor.rest;
    let Some(first) = rest.chars().next() else {
        return Err(TemplateError::new(at, "something is missing"));
    };
    let (length, token) = match first {
        '|' => (1, Token::Pipe),
        ',' => (1, Token::Comma),
        '(' => (1, Token::Open),
        ')' => (1, Token::Close),
        '=' => (1, Token::Assign),
        ':' if rest.starts_with(":=") => (2, Token::Declare),
        '.' => match name(rest.get(1..).unwrap_or_default()) {
            "" if !rest.get(1..2).is_some_and(|next| next.starts_with(|c: char| c.is_ascii_digit())) => {
                (1, Token::Dot)
            }
            "" => number(rest, at)?,
            name => (1 + name.len(), Token::Field { name: name.to_owned(), attached }),
        },
        '$' => {
            let name = name(rest.get(1..).unwrap_or_default());
            (1 + name.len(), Token::Variable(name.to_owned()))
        }
        '"' => quoted(rest, at)?,
        '`' => {
            let raw = rest.get(1..).and_then(|rest| rest.split_once('`'));
            let (raw, _) = raw.ok_or_else(|| TemplateError::new(at, "the string is not closed by `"))?;
            (raw.len() + 2, Token::Literal(raw.into()))
        }
        '-' | '+' | '0'..='9' => number(rest, at)?,
        _ => match name(rest) {
            "" => return Err(TemplateError::new(at, format!("{first:?} means nothing here"))),
            "true" => (4, Token::Literal(true.into())),
            "false" => (5, Token::Literal(false.into())),
            "nil" => (3, Token::Literal(Value::Null)),
            word => (word.len(), Token::Word(word.to_owned())),
        },
    };
    cursor.skip(length);
    Ok(token)
}

/// The letters, digits and underscores at the beginning.
fn name(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

fn number(text: &str, at: Position) -> Result<(usize, Token), TemplateError> {
    let end = text
        .char_indices()
        .find(|(index, c)| !(c.is_ascii_alphanumeric() || *c == '.' || (*index == 0 && "+-".contains(*c))));
    let digits = text.get(..end.map_or(text.len(), |(index, _)| index)).unwrap_or_default();
    let integer = digits.parse::<i64>().ok().map(Value::from);
    let value = integer.or_else(|| {
        let float = digits.parse::<f64>().ok().filter(|_| digits.contains(|c: char| c.is_ascii_digit()))?;
        serde_json::Number::from_f64(float).map(Value::Number)
    });
    let value = value.ok_or_else(|| TemplateError::new(at, format!("{digits:?} is no number")))?;
    Ok((digits.len(), Token::Literal(value)))
}

/// A string with the escapes of Go's that people write.
fn quoted(text: &str, at: Position) -> Result<(usize, Token), TemplateError> {
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Ok((index + 1, Token::Literal(value.into()))),
            '\n' => break,
            '\\' => match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, 'r')) => value.push('\r'),
                Some((_, same @ ('"' | '\\' | '\''))) => value.push(same),
                _ => return Err(TemplateError::new(at, "the string has an escape that is none")),
            },
            other => value.push(other),
        }
    }
    Err(TemplateError::new(at, "the string is not closed by \""))
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// The text that is left, and where it begins.
struct Cursor<'a> {
    rest: &'a str,
    position: Position,
}

impl Cursor<'_> {
    fn skip(&mut self, bytes: usize) {
        let (passed, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        for character in passed.chars() {
            if character == '\n' {
                self.position = Position { line: self.position.line + 1, column: 1 };
            } else {
                self.position.column += 1;
            }
        }
        self.rest = rest;
    }
}
