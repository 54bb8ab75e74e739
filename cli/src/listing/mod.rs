//! Lists as Docker prints them: a table, a JSON object a line, or a template of the user's for each row.

mod format;
mod table;

use std::io::{self, Write};

use serde_json::Value;

pub(crate) use self::format::Format;
pub(crate) use self::table::align;
use crate::template::{Template, TemplateError};

/// A kind of list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listing {
    /// Every field a row has, and what stands above it in a table.
    pub headings: &'static [(&'static str, &'static str)],
    /// What a row shows unless the user says otherwise, such as `{{.ID}}\t{{.Name}}`.
    pub row: &'static str,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ListingError {
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error("cannot print the list")]
    Print(#[from] io::Error),
}

/// A field of a row that holds labels, for `{{.Label "name"}}`; no list shows it by itself.
pub(crate) const LABEL: &str = "Label";

impl Listing {
    pub(crate) fn print(
        &self,
        format: &Format,
        rows: &[Value],
        out: &mut dyn Write,
    ) -> Result<(), ListingError> {
        let text = match format {
            Format::Json => rows.iter().map(json_line).collect(),
            Format::Row(template) => lines(template, rows)?,
            Format::Table(template) => {
                let own;
                let template = match template {
                    Some(template) => template,
                    None => {
                        own = Template::parse_row(self.row)?;
                        &own
                    }
                };
                let heading = template.render_heading(&self.all_headings())? + "\n";
                table::align(&(heading + &lines(template, &rows.iter().map(harmless).collect::<Vec<_>>())?))
            }
        };
        Ok(out.write_all(text.as_bytes())?)
    }

    fn all_headings(&self) -> Value {
        let fields =
            self.headings.iter().map(|(field, heading)| ((*field).to_owned(), Value::from(*heading)));
        fields.chain([(LABEL.to_owned(), Value::Object(Default::default()))]).collect()
    }
}

fn lines(template: &Template, rows: &[Value]) -> Result<String, TemplateError> {
    rows.iter().map(|row| Ok(template.render(row)? + "\n")).collect()
}

fn json_line(row: &Value) -> String {
    let mut row = row.clone();
    if let Value::Object(fields) = &mut row {
        fields.remove(LABEL);
    }
    format!("{row}\n")
}

/// What files, images and arguments are called may hold anything, even a terminal's commands: the same row with
/// those written out.
fn harmless(row: &Value) -> Value {
    match row {
        Value::String(text) => escape(text).into(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), harmless(value))).collect(),
        other => other.clone(),
    }
}

/// Text with its control characters written out.
pub(crate) fn escape(text: &str) -> String {
    let each =
        text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() });
    each.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LISTING: Listing =
        Listing { headings: &[("ID", "CONTAINER ID"), ("Names", "NAMES")], row: "{{.ID}}\t{{.Names}}" };

    fn print(format: &str) -> String {
        let rows = [
            json!({"ID": "0123456789ab", "Names": "web", "Label": {"com.example.a": "b"}}),
            json!({"ID": "1", "Names": "\u{1b}[2J", "Label": {}}),
        ];
        let mut out = Vec::new();
        LISTING.print(&format.parse().unwrap(), &rows, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_table_is_aligned_and_harmless() {
        let table = "CONTAINER ID   NAMES\n0123456789ab   web\n1              \\u{1b}[2J\n";
        assert_eq!(print("table"), table);
        let own = print("table {{.Names | upper}}\\t{{.Label \"com.example.a\"}}");
        assert_eq!(own, "NAMES       a\nWEB         b\n\\U{1B}[2J\n");
    }

    #[test]
    fn programs_get_an_object_a_line() {
        let lines: Vec<Value> =
            print("json").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0], json!({"ID": "0123456789ab", "Names": "web"}));
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn a_template_is_used_for_each_row() {
        assert_eq!(print("{{.ID}}={{.Names}}"), "0123456789ab=web\n1=\u{1b}[2J\n");
    }
}
