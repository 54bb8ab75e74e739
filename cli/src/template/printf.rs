//! Go's `printf`, for the verbs people use: %s %v %q %d %x %X %f %t %%.

use serde_json::Value;

use super::show::show;

/// The largest width and precision.
const MAX_WIDTH: usize = 1000;

/// What a verb says of how to print a value.
#[derive(Default)]
struct Directive {
    left: bool,
    zeros: bool,
    plus: bool,
    width: usize,
    precision: Option<usize>,
}

/// As Go does, says in the text itself what does not fit.
pub(super) fn printf(format: &str, values: &[Value]) -> String {
    let mut out = String::new();
    let mut values = values.iter();
    let mut characters = format.chars().peekable();
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let directive = Directive::read(&mut characters);
        match characters.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match values.next() {
                None => out.push_str(&format!("%!{verb}(MISSING)")),
                Some(value) => out.push_str(&directive.print(verb, value)),
            },
        }
    }
    let extra: Vec<_> = values.map(show).collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

impl Directive {
    fn read(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Self {
        let mut directive = Self::default();
        while let Some(flag) = characters.next_if(|c| "-+0 #".contains(*c)) {
            match flag {
                '-' => directive.left = true,
                '0' => directive.zeros = true,
                '+' => directive.plus = true,
                _ => {}
            }
        }
        let mut number = || {
            let mut number = 0usize;
            while let Some(digit) = characters.peek().and_then(|c| c.to_digit(10)) {
                characters.next();
                number = number.saturating_mul(10).saturating_add(digit as usize).min(MAX_WIDTH);
            }
            (number, characters.next_if_eq(&'.').is_some())
        };
        let (width, more) = number();
        directive.width = width;
        directive.precision = more.then(|| number().0);
        directive
    }

    fn print(&self, verb: char, value: &Value) -> String {
        let integer = value.as_i64();
        let text = match (verb, value) {
            ('s' | 'v', _) => self.cut(show(value)),
            ('q', Value::String(text)) => format!("{text:?}"),
            ('t', Value::Bool(yes)) => yes.to_string(),
            ('d', Value::Number(_)) if integer.is_some() => self.signed(value.to_string()),
            ('x', Value::Number(_)) if integer.is_some() => format!("{:x}", integer.unwrap_or_default()),
            ('X', Value::Number(_)) if integer.is_some() => format!("{:X}", integer.unwrap_or_default()),
            ('x', Value::String(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
            ('f', Value::Number(number)) => {
                let number = number.as_f64().unwrap_or_default();
                self.signed(format!("{number:.*}", self.precision.unwrap_or(6)))
            }
            (verb, value) => format!("%!{verb}({})", show(value)),
        };
        self.pad(text, value.is_number())
    }

    fn cut(&self, text: String) -> String {
        match self.precision {
            Some(most) => text.chars().take(most).collect(),
            None => text,
        }
    }

    fn signed(&self, digits: String) -> String {
        if self.plus && !digits.starts_with('-') { format!("+{digits}") } else { digits }
    }

    fn pad(&self, text: String, is_number: bool) -> String {
        let missing = self.width.saturating_sub(text.chars().count());
        if self.left {
            return text + &" ".repeat(missing);
        }
        if self.zeros && is_number {
            let (sign, digits) = match text.strip_prefix(['-', '+']) {
                Some(digits) => text.split_at(text.len() - digits.len()),
                None => ("", text.as_str()),
            };
            return format!("{sign}{}{digits}", "0".repeat(missing));
        }
        " ".repeat(missing) + &text
    }
}
