//! `--filter`: which of all there are a list shows.

use std::str::FromStr;

/// One condition. Several of one key: any of them holds; of several keys: each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    pub key: String,
    pub value: String,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("write KEY=VALUE, such as label=tier=front")]
pub(crate) struct FilterError;

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                Ok(Self { key: key.trim().to_ascii_lowercase(), value: value.trim().to_owned() })
            }
            _ => Err(FilterError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_may_hold_an_equals_sign() {
        let filter = Filter { key: "label".to_owned(), value: "a=b".to_owned() };
        assert_eq!("label=a=b".parse(), Ok(filter));
        for text in ["label", "", "=x"] {
            assert_eq!(text.parse::<Filter>(), Err(FilterError), "{text}");
        }
    }
}
