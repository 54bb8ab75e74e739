//! `--format` of a list.

use std::str::FromStr;

use crate::template::{Template, TemplateError};

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Format {
    /// With a heading, aligned; the usual columns, or a template's.
    Table(Option<Template>),
    /// A JSON object a line.
    Json,
    /// A template for each row.
    Row(Template),
}

impl FromStr for Format {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let text = text.trim_matches(' ');
        Ok(match text {
            "table" => Self::Table(None),
            "json" => Self::Json,
            _ => match text.strip_prefix("table ") {
                Some(columns) => Self::Table(Some(Template::parse_row(columns.trim_start())?)),
                None => Self::Row(Template::parse_row(text)?),
            },
        })
    }
}
