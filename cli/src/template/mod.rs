//! Docker's `--format`: Go's text/template over JSON, as far as people write it on a command line.
//!
//! [`lexer`] cuts the text into pieces, [`parser`] makes a tree of them, [`evaluate`] walks it over a value, and
//! [`functions`] is what can be called. Fields, pipelines, variables, `if`, `with`, `range`, trimming and comments
//! are there; templates within templates are not.

mod evaluate;
mod functions;
mod lexer;
mod parser;
mod printf;
mod show;
#[cfg(test)]
mod tests;

use std::fmt;

use serde_json::Value;

use self::parser::Node;

/// A template that was understood.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template {
    nodes: Vec<Node>,
}

/// Where in a template something stands, both from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub line: usize,
    pub column: usize,
}

/// What is wrong with a template, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the template cannot be used: {position}: {cause}")]
pub(crate) struct TemplateError {
    position: Position,
    cause: String,
}

impl Template {
    /// Takes a template as it stands.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        Self::of(lexer::lex(text)?)
    }

    /// Takes a template for each row of a list: `\t` and `\n`, written out, are a tabulator and a line's end.
    pub(crate) fn parse_row(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = lexer::lex(text)?;
        for piece in &mut pieces {
            if let lexer::Piece::Text(text) = piece {
                *text = text.replace("\\t", "\t").replace("\\n", "\n");
            }
        }
        Self::of(pieces)
    }

    fn of(pieces: Vec<lexer::Piece>) -> Result<Self, TemplateError> {
        Ok(Self { nodes: parser::parse(pieces)? })
    }

    /// What the template says of a value.
    pub(crate) fn render(&self, value: &Value) -> Result<String, TemplateError> {
        evaluate::render(&self.nodes, value, functions::call)
    }

    /// What stands above the rows it makes, from a value that has each field's heading: functions that would change
    /// a field leave its heading alone.
    pub(crate) fn render_heading(&self, headings: &Value) -> Result<String, TemplateError> {
        evaluate::render(&self.nodes, headings, functions::call_on_heading)
    }
}

impl TemplateError {
    fn new(position: Position, cause: impl Into<String>) -> Self {
        Self { position, cause: cause.into() }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.line, self.column)
    }
}
