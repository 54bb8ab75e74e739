//! Numbers of bytes with Docker's units.

use std::str::FromStr;

/// Below 2^52.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bytes(pub u64);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum BytesError {
    #[error("write a number with a unit of b, k, m or g, such as 512m")]
    Malformed,
    #[error("that is more than a machine can have")]
    TooLarge,
}

impl FromStr for Bytes {
    type Err = BytesError;

    fn from_str(text: &str) -> Result<Self, BytesError> {
        let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let number: f64 = number.parse().map_err(|_| BytesError::Malformed)?;
        let shift = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(BytesError::Malformed),
        };
        let bytes = number * (1u64 << shift) as f64;
        if bytes >= (1u64 << 52) as f64 {
            return Err(BytesError::TooLarge);
        }
        // In range of u64 by the check above; a fraction of a byte is nothing.
        Ok(Self(bytes as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_those_of_docker() {
        for (text, bytes) in [
            ("67108864", 64 << 20),
            ("67108864b", 64 << 20),
            ("65536k", 64 << 20),
            ("256m", 256 << 20),
            ("256M", 256 << 20),
            ("256MB", 256 << 20),
            ("256MiB", 256 << 20),
            ("0.5g", 512 << 20),
            ("2g", 2 << 30),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", "m", "12q", "-5m", "1.2.3g", "1 g", "é", "5mm"] {
            assert_eq!(text.parse::<Bytes>(), Err(BytesError::Malformed), "{text}");
        }
        assert_eq!("9999999999t".parse::<Bytes>(), Err(BytesError::TooLarge));
    }
}
