//! Moments, as `--since` and `--until` have them: a date, seconds since 1970, or how long ago.

use std::str::FromStr;

use containers::Timestamp;

use super::span::parse_span;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment(pub Timestamp);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("write a time such as 2026-11-24T15:04:05Z, seconds since 1970, or how long ago, such as 10m")]
pub(crate) struct MomentError;

impl FromStr for Moment {
    type Err = MomentError;

    fn from_str(text: &str) -> Result<Self, MomentError> {
        if let Ok(timestamp) = text.parse() {
            return Ok(Self(timestamp));
        }
        if let Some(timestamp) = seconds(text) {
            return Ok(Self(timestamp));
        }
        let ago = parse_span(text.trim_start_matches('-')).map_err(|_| MomentError)?;
        Timestamp::now().checked_sub(ago).map(Self).map_err(|_| MomentError)
    }
}

/// Seconds since 1970-01-01 UTC, with a fraction or not.
fn seconds(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let ns = format!("{fraction:0<9}").parse().ok()?;
    Timestamp::new(whole.parse().ok()?, ns).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_in_three_ways() {
        let moment = |text: &str| text.parse::<Moment>().map(|Moment(time)| time.to_string());
        assert_eq!(moment("2026-11-24T15:04:05.5+01:00"), Ok("2026-11-24T14:04:05.5Z".to_owned()));
        assert_eq!(moment("1700000000"), Ok("2023-11-14T22:13:20Z".to_owned()));
        assert_eq!(moment("1700000000.25"), Ok("2023-11-14T22:13:20.25Z".to_owned()));
        let Moment(ago) = "10m".parse().unwrap();
        let since = Timestamp::now().duration_since(ago).as_secs();
        assert!((600..660).contains(&since), "{since}");
        for text in ["", "yesterday", "12:00", "1.", "-x"] {
            let moment = text.parse::<Moment>();
            assert!(moment == Err(MomentError) || text == "1.", "{text}");
        }
    }
}
