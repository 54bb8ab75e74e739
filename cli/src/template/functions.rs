//! What a template can call: Go's own functions, and those Docker adds.

use std::cmp::Ordering;

use serde_json::Value;

use super::printf::printf;
use super::show::{is_true, kind, show};

/// The most a template may pad by, in characters.
const MAX_PAD: usize = 1000;

/// What `.Label "name"` calls; no name that a template can have.
pub(super) const LOOKUP: &str = ".";

pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    match (name, arguments) {
        (LOOKUP, [value, name]) => index(value, name),
        ("json", [value]) => Ok(value.to_string().into()),
        ("lower", [text]) => Ok(string(text)?.to_lowercase().into()),
        ("upper", [text]) => Ok(string(text)?.to_uppercase().into()),
        ("title", [text]) => Ok(title(string(text)?).into()),
        ("split", [text, separator]) => split(string(text)?, string(separator)?),
        ("join", [Value::Array(parts), separator]) => {
            Ok(parts.iter().map(show).collect::<Vec<_>>().join(string(separator)?).into())
        }
        ("join", [Value::Null, _]) => Ok("".into()),
        ("truncate", [text, length]) => {
            Ok(string(text)?.chars().take(size(length)?).collect::<String>().into())
        }
        ("pad", [text, before, after]) => pad(string(text)?, size(before)?, size(after)?),
        ("len", [value]) => length(value),
        ("index", [value, keys @ ..]) => keys.iter().try_fold(value.clone(), |value, key| index(&value, key)),
        ("slice", [value, bounds @ ..]) => slice(value, bounds),
        ("print", values) => Ok(values.iter().map(show).collect::<String>().into()),
        ("println", values) => Ok((values.iter().map(show).collect::<Vec<_>>().join(" ") + "\n").into()),
        ("printf", [format, values @ ..]) => Ok(printf(string(format)?, values).into()),
        ("not", [value]) => Ok((!is_true(value)).into()),
        ("eq", [value, others @ ..]) if !others.is_empty() => {
            Ok(others.iter().any(|other| equal(value, other)).into())
        }
        ("ne", [one, other]) => Ok((!equal(one, other)).into()),
        ("lt", [one, other]) => Ok(compare(one, other)?.is_lt().into()),
        ("le", [one, other]) => Ok(compare(one, other)?.is_le().into()),
        ("gt", [one, other]) => Ok(compare(one, other)?.is_gt().into()),
        ("ge", [one, other]) => Ok(compare(one, other)?.is_ge().into()),
        _ if KNOWN.contains(&name) => Err(format!("{name} cannot take these {} arguments", arguments.len())),
        _ => Err(format!("there is no function {name}; there are and, or, {}", KNOWN.join(", "))),
    }
}

const KNOWN: [&str; 21] = [
    "not", "eq", "ne", "lt", "le", "gt", "ge", "len", "index", "slice", "print", "printf", "println", "json",
    "join", "split", "lower", "upper", "title", "truncate", "pad",
];

/// In the line above a table, a function that would change a field leaves its heading as it is.
pub(super) fn call_on_heading(name: &str, arguments: &[Value]) -> Result<Value, String> {
    match (name, arguments) {
        ("json" | "lower" | "upper" | "title" | "split" | "join" | "truncate" | "pad", [heading, ..]) => {
            Ok(heading.clone())
        }
        ("index" | "slice", [heading, ..]) => Ok(heading.clone()),
        // A label's name without the domain before it.
        (LOOKUP, [_, name]) => Ok(show(name).rsplit('.').next().unwrap_or_default().into()),
        _ => call(name, arguments),
    }
}

fn string(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| format!("a string is wanted, and this is {}", kind(value)))
}

fn size(value: &Value) -> Result<usize, String> {
    let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
    size.ok_or_else(|| format!("a number from 0 is wanted, and this is {}", show(value)))
}

fn split(text: &str, separator: &str) -> Result<Value, String> {
    if separator.is_empty() {
        return Ok(text.chars().map(String::from).collect());
    }
    Ok(text.split(separator).collect())
}

/// The first letter of each word made large.
fn title(text: &str) -> String {
    let mut begins = true;
    let each = text.chars().flat_map(|c| {
        let shown: Vec<char> = if begins { c.to_uppercase().collect() } else { vec![c] };
        begins = c.is_whitespace();
        shown
    });
    each.collect()
}

fn pad(text: &str, before: usize, after: usize) -> Result<Value, String> {
    if before > MAX_PAD || after > MAX_PAD {
        return Err(format!("pad adds at most {MAX_PAD} spaces"));
    }
    if text.is_empty() {
        return Ok("".into());
    }
    Ok(format!("{}{text}{}", " ".repeat(before), " ".repeat(after)).into())
}

fn length(value: &Value) -> Result<Value, String> {
    match value {
        Value::String(text) => Ok(text.len().into()),
        Value::Array(values) => Ok(values.len().into()),
        Value::Object(members) => Ok(members.len().into()),
        Value::Null => Ok(0.into()),
        other => Err(format!("{} has no length", kind(other))),
    }
}

fn index(value: &Value, key: &Value) -> Result<Value, String> {
    match (value, key) {
        // As Go's maps of strings: what is not there is empty.
        (Value::Object(members), Value::String(name)) => {
            Ok(members.get(name).cloned().unwrap_or_else(|| "".into()))
        }
        (Value::Null, Value::String(_)) => Ok("".into()),
        (Value::Array(values), Value::Number(_)) => {
            let found = values.get(size(key)?).cloned();
            found.ok_or_else(|| format!("index {key} is out of range: there are {}", values.len()))
        }
        (value, key) => Err(format!("{} cannot be indexed by {}", kind(value), kind(key))),
    }
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, String> {
    let bound = |at: usize, default| bounds.get(at).map_or(Ok(default), size);
    let out_of_range = || "the bounds are out of range".to_owned();
    match value {
        Value::String(text) => {
            let range = bound(0, 0)?..bound(1, text.len())?;
            text.get(range).map(Value::from).ok_or_else(out_of_range)
        }
        Value::Array(values) => {
            let range = bound(0, 0)?..bound(1, values.len())?;
            values.get(range).map(|part| Value::Array(part.to_vec())).ok_or_else(out_of_range)
        }
        other => Err(format!("{} cannot be cut", kind(other))),
    }
}

/// Numbers are the same whether they have a fraction or not.
fn equal(one: &Value, other: &Value) -> bool {
    one == other || matches!(compare(one, other), Ok(Ordering::Equal))
}

fn compare(one: &Value, other: &Value) -> Result<Ordering, String> {
    let order = match (one, other) {
        (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
        (Value::Number(one), Value::Number(other)) => match (one.as_i64(), other.as_i64()) {
            (Some(one), Some(other)) => Some(one.cmp(&other)),
            _ => one.as_f64().zip(other.as_f64()).and_then(|(one, other)| one.partial_cmp(&other)),
        },
        _ => None,
    };
    order.ok_or_else(|| format!("{} cannot be compared with {}", kind(one), kind(other)))
}
