//! Spans of time as Docker writes them: `30s`, `1m30s`, `1.5h`, `100ms`, `0`.

use std::time::Duration;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("write a time with its unit, such as 500ms, 30s, 5m or 1h30m")]
pub(crate) struct SpanError;

const UNITS: [(&str, f64); 7] =
    [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

/// More than anybody waits for, in seconds.
const LONGEST: f64 = 1e9;

pub(crate) fn parse_span(text: &str) -> Result<Duration, SpanError> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    if rest.is_empty() {
        return Err(SpanError);
    }
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(SpanError)?;
        let (number, from_unit) = rest.split_at(unit_at);
        let next_at = from_unit.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(from_unit.len());
        let (unit, next) = from_unit.split_at(next_at);
        let number: f64 = number.parse().map_err(|_| SpanError)?;
        let (_, factor) = UNITS.iter().find(|(known, _)| *known == unit).ok_or(SpanError)?;
        seconds += number * factor;
        rest = next;
    }
    if seconds <= LONGEST { Ok(Duration::from_secs_f64(seconds)) } else { Err(SpanError) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_sums_of_numbers_with_units() {
        for (text, milliseconds) in [
            ("0", 0),
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            ("100ms", 100),
            ("1h2m3s4ms", 3_723_004),
        ] {
            assert_eq!(parse_span(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_span_is_refused() {
        for text in ["", "5", "s", "-5s", "5x", "1s2", "5 s", "1e3s", "..s", "99999999999h"] {
            assert_eq!(parse_span(text), Err(SpanError), "{text}");
        }
    }
}
